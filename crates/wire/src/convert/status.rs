//! What a store says about itself: status, alarms, members, hashes.

use synod_store::{
    Alarm, AlarmKind, Error, HashResponse, Header, Member, Result, Revision, StatusResponse,
};

use super::{header, invalid, malformed, revision, signed, unsigned};
use crate::etcdserverpb as pb;
use crate::etcdserverpb::AlarmType;
use crate::etcdserverpb::alarm_request::AlarmAction;

impl From<StatusResponse> for pb::StatusResponse {
    fn from(status: StatusResponse) -> pb::StatusResponse {
        pb::StatusResponse {
            header: Some(status.header.into()),
            version: status.version,
            db_size: signed(status.db_size),
            leader: status.leader,
            raft_index: status.raft_index,
            raft_term: status.header.raft_term,
            raft_applied_index: status.raft_applied_index,
            errors: status.errors,
            db_size_in_use: signed(status.db_size_in_use),
            is_learner: status.is_learner,
            ..pb::StatusResponse::default()
        }
    }
}

impl TryFrom<pb::StatusResponse> for StatusResponse {
    type Error = Error;

    fn try_from(status: pb::StatusResponse) -> Result<StatusResponse> {
        Ok(StatusResponse {
            header: header(status.header)?,
            version: status.version,
            db_size: unsigned("the size", status.db_size)?,
            db_size_in_use: unsigned("the size in use", status.db_size_in_use)?,
            leader: status.leader,
            raft_index: status.raft_index,
            raft_applied_index: status.raft_applied_index,
            is_learner: status.is_learner,
            errors: status.errors,
        })
    }
}

/// What a client asks about alarms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmCommand {
    /// Those that stand, of one kind or of every kind.
    Get(Option<AlarmKind>),
    /// Raise one.
    Raise(Alarm),
    /// Take one back. A member of 0 has none, so that nothing happens then.
    Disarm(Alarm),
}

impl From<&AlarmCommand> for pb::AlarmRequest {
    fn from(command: &AlarmCommand) -> pb::AlarmRequest {
        let of = |action: AlarmAction, alarm: &Alarm| pb::AlarmRequest {
            action: action.into(),
            member_id: alarm.member_id,
            alarm: alarm_type(alarm.kind).into(),
        };
        match command {
            AlarmCommand::Get(kind) => pb::AlarmRequest {
                action: AlarmAction::Get.into(),
                member_id: 0,
                alarm: kind.map_or(AlarmType::None, alarm_type).into(),
            },
            AlarmCommand::Raise(alarm) => of(AlarmAction::Activate, alarm),
            AlarmCommand::Disarm(alarm) => of(AlarmAction::Deactivate, alarm),
        }
    }
}

impl TryFrom<pb::AlarmRequest> for AlarmCommand {
    type Error = Error;

    fn try_from(request: pb::AlarmRequest) -> Result<AlarmCommand> {
        let kind = alarm_kind(request.alarm)
            .map_err(|()| invalid(format_args!("unknown alarm {}", request.alarm)))?;
        let alarm = || match kind {
            Some(kind) => Ok(Alarm {
                member_id: request.member_id,
                kind,
            }),
            None => Err(invalid("no alarm is named")),
        };
        match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => Ok(AlarmCommand::Get(kind)),
            Ok(AlarmAction::Activate) => alarm().map(AlarmCommand::Raise),
            Ok(AlarmAction::Deactivate) => alarm().map(AlarmCommand::Disarm),
            Err(_) => Err(invalid(format_args!("unknown action {}", request.action))),
        }
    }
}

fn alarm_type(kind: AlarmKind) -> AlarmType {
    match kind {
        AlarmKind::NoSpace => AlarmType::Nospace,
        AlarmKind::Corrupt => AlarmType::Corrupt,
    }
}

/// `None` for etcd's NONE.
fn alarm_kind(number: i32) -> Result<Option<AlarmKind>, ()> {
    match AlarmType::try_from(number) {
        Ok(AlarmType::None) => Ok(None),
        Ok(AlarmType::Nospace) => Ok(Some(AlarmKind::NoSpace)),
        Ok(AlarmType::Corrupt) => Ok(Some(AlarmKind::Corrupt)),
        Err(_) => Err(()),
    }
}

/// The answer with these alarms.
#[must_use]
pub fn alarm_response(header: Header, alarms: Vec<Alarm>) -> pb::AlarmResponse {
    let member = |alarm: Alarm| pb::AlarmMember {
        member_id: alarm.member_id,
        alarm: alarm_type(alarm.kind).into(),
    };
    pb::AlarmResponse {
        header: Some(header.into()),
        alarms: alarms.into_iter().map(member).collect(),
    }
}

/// The alarms of an answer.
///
/// # Errors
///
/// When one of them is of an unknown kind: a store that complains must not pass for a sound one.
pub fn alarms(response: pb::AlarmResponse) -> Result<Vec<Alarm>> {
    let alarm = |member: pb::AlarmMember| match alarm_kind(member.alarm) {
        Ok(Some(kind)) => Ok(Alarm {
            member_id: member.member_id,
            kind,
        }),
        Ok(None) | Err(()) => Err(malformed(format_args!("unknown alarm {}", member.alarm))),
    };
    response.alarms.into_iter().map(alarm).collect()
}

impl From<Member> for pb::Member {
    fn from(member: Member) -> pb::Member {
        pb::Member {
            id: member.id,
            name: member.name,
            peer_ur_ls: member.peer_urls,
            client_ur_ls: member.client_urls,
            is_learner: member.is_learner,
        }
    }
}

impl From<pb::Member> for Member {
    fn from(member: pb::Member) -> Member {
        Member {
            id: member.id,
            name: member.name,
            peer_urls: member.peer_ur_ls,
            client_urls: member.client_ur_ls,
            is_learner: member.is_learner,
        }
    }
}

/// The answer with these members.
#[must_use]
pub fn member_list(header: Header, members: Vec<Member>) -> pb::MemberListResponse {
    pb::MemberListResponse {
        header: Some(header.into()),
        members: members.into_iter().map(Into::into).collect(),
    }
}

/// The members of an answer.
#[must_use]
pub fn members(response: pb::MemberListResponse) -> Vec<Member> {
    response.members.into_iter().map(Into::into).collect()
}

impl From<HashResponse> for pb::HashKvResponse {
    fn from(hash: HashResponse) -> pb::HashKvResponse {
        pb::HashKvResponse {
            header: Some(hash.header.into()),
            hash: hash.hash,
            compact_revision: hash.compact_revision.as_i64(),
            hash_revision: hash.hash_revision.as_i64(),
        }
    }
}

/// The answer to a request to hash at `asked`.
///
/// etcd before 3.6 does not say which revision it hashed: the one asked for, else its newest. A
/// store that was never compacted gives -1 as its compact revision.
///
/// # Errors
///
/// When the answer makes no sense.
pub fn hash_response(asked: Revision, response: pb::HashKvResponse) -> Result<HashResponse> {
    let header = header(response.header)?;
    let hash_revision = match revision("the revision hashed", response.hash_revision)? {
        Revision::ZERO if asked.is_zero() => header.revision,
        Revision::ZERO => asked,
        said => said,
    };
    Ok(HashResponse {
        header,
        hash: response.hash,
        compact_revision: Revision::from_i64(response.compact_revision),
        hash_revision,
    })
}

#[cfg(test)]
mod tests {
    use synod_store::ErrorKind;

    use super::*;

    #[test]
    fn commands_about_alarms_survive() {
        let alarm = Alarm {
            member_id: 7,
            kind: AlarmKind::NoSpace,
        };
        for command in [
            AlarmCommand::Get(None),
            AlarmCommand::Get(Some(AlarmKind::Corrupt)),
            AlarmCommand::Raise(alarm),
            AlarmCommand::Disarm(alarm),
        ] {
            let message = pb::AlarmRequest::from(&command);
            assert_eq!(AlarmCommand::try_from(message).unwrap(), command);
        }
    }

    #[test]
    fn unknown_alarms_are_refused() {
        let request = |action, alarm| {
            AlarmCommand::try_from(pb::AlarmRequest {
                action,
                member_id: 0,
                alarm,
            })
        };
        for (action, alarm) in [(3, 0), (0, 3), (1, 0), (2, 0)] {
            let error = request(action, alarm).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
        for alarm in [0, 3] {
            let response = pb::AlarmResponse {
                header: None,
                alarms: vec![pb::AlarmMember {
                    member_id: 1,
                    alarm,
                }],
            };
            assert!(alarms(response).is_err());
        }
    }

    #[test]
    fn a_hash_says_what_was_hashed() {
        let header = pb::ResponseHeader {
            revision: 9,
            ..pb::ResponseHeader::default()
        };
        let hashed = |asked, hash_revision| {
            let response = pb::HashKvResponse {
                header: Some(header),
                hash: 1,
                compact_revision: -1,
                hash_revision,
            };
            hash_response(asked, response).unwrap()
        };
        assert_eq!(hashed(Revision::ZERO, 0).hash_revision, Revision(9));
        assert_eq!(hashed(Revision(4), 0).hash_revision, Revision(4));
        assert_eq!(hashed(Revision(4), 5).hash_revision, Revision(5));
        assert_eq!(hashed(Revision::ZERO, 0).compact_revision, Revision::ZERO);
    }

    #[test]
    fn a_negative_size_is_refused() {
        let status = pb::StatusResponse {
            header: Some(pb::ResponseHeader::default()),
            db_size: -1,
            ..pb::StatusResponse::default()
        };
        assert!(StatusResponse::try_from(status).is_err());
    }
}
