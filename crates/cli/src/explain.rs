//! What a failure of the store or a primitive means to whoever typed the command: its exit code,
//! and the way out.

use synod::Error;
use synod_store::ErrorKind;

use crate::failure::{Exit, Failure};

/// `doing` failed with `error`: "cannot push to my-test-queue".
pub(crate) fn explain(doing: &str, error: &Error) -> Failure {
    let failure = Failure::new(exit(error), doing).because(error);
    match hint(error) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The same for the store's own error.
pub(crate) fn explain_store(doing: &str, error: &synod_store::Error) -> Failure {
    let exit = if error.is_maybe_applied() {
        Exit::Unknown
    } else {
        exit_of_kind(error.kind())
    };
    let failure = Failure::new(exit, doing).because(error);
    match hint_of_kind(error.kind()) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn exit(error: &Error) -> Exit {
    if error.is_maybe_committed() {
        return Exit::Unknown;
    }
    match error {
        Error::InvalidUrl { .. }
        | Error::FeatureMissing { .. }
        | Error::InvalidOption { .. }
        | Error::InvalidArgument(_)
        | Error::ReservedName { .. } => Exit::Usage,
        Error::Timeout { .. } => Exit::Unreachable,
        Error::SessionLost | Error::NotOwner { .. } | Error::DeliveryEnded { .. } => Exit::Lost,
        Error::Partial { source, .. } => exit(source),
        _ => error.kind().map_or(Exit::Failed, exit_of_kind),
    }
}

fn exit_of_kind(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::InvalidAddress => Exit::Usage,
        ErrorKind::ConnectionRefused
        | ErrorKind::Tls
        | ErrorKind::Unavailable
        | ErrorKind::Timeout
        | ErrorKind::Unauthenticated
        | ErrorKind::InUse => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

fn hint(error: &Error) -> Option<&'static str> {
    match error {
        Error::Disagreement { what, .. } if what.contains("permits") => {
            Some("say the same --permits as the others, or change it for all with --resize")
        }
        Error::Disagreement { .. } => Some("say the same as the others, or choose another --name"),
        Error::QueueFull { .. } => Some("take items out, or raise --capacity"),
        Error::AnswersLost { .. } => Some("it did happen: read the keys again"),
        Error::Timeout { .. } => hint_of_kind(ErrorKind::Timeout),
        _ if error.is_maybe_committed() => {
            Some("it may have happened or not: look at what is there before repeating it")
        }
        _ => error.kind().and_then(hint_of_kind),
    }
}

fn hint_of_kind(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::ConnectionRefused => {
            "without --addr and $SYNOD_ADDR, synod starts a server of its own"
        }
        ErrorKind::Tls => {
            "--cacert names the authority that signed the server's certificate; --cert and --key \
             are for a server that wants one of yours; a server without TLS is reached by http://"
        }
        ErrorKind::Unavailable | ErrorKind::Timeout => {
            "is the address right, and does the cluster have a leader? `synod status` asks it"
        }
        ErrorKind::Unauthenticated => "log in with --user NAME and $SYNOD_PASSWORD",
        ErrorKind::PermissionDenied => {
            "log in with --user as somebody who may, or have the role granted"
        }
        ErrorKind::Corrupt => {
            "`synod verify DIR` tells what is wrong; restore the directory from a copy"
        }
        ErrorKind::InUse => {
            "end that process first; or have one serve it (`synod serve --data DIR`) and connect to \
             that with --addr"
        }
        ErrorKind::NewerFormat => "a newer synod wrote it: use that one",
        ErrorKind::NoSpace => {
            "make room on the disk or raise --quota-backend-bytes of `synod serve`; taking items \
             out works meanwhile"
        }
        ErrorKind::TooLarge => {
            "a request has 1.5 MiB at most; --max-request-bytes of `synod serve` (and of etcd) \
             raises it"
        }
        ErrorKind::Poisoned => "restart the server once the disk works again",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_store::Applied;

    #[test]
    fn exit_codes_tell_apart_what_scripts_must() {
        let of = |error: synod_store::Error| explain_store("x", &error).exit;
        assert_eq!(of(ErrorKind::ConnectionRefused.into()), Exit::Unreachable);
        assert_eq!(of(ErrorKind::InvalidAddress.into()), Exit::Usage);
        assert_eq!(of(ErrorKind::NoSpace.into()), Exit::Failed);
        let lost = synod_store::Error::from_kind(ErrorKind::Unavailable);
        assert_eq!(of(lost.with_applied(Applied::Maybe)), Exit::Unknown);
    }
}
