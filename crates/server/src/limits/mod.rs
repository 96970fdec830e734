//! What a request may take: the time until it has arrived, the bytes of all that are arriving, and
//! its own size, refused with etcd's code and text.

mod arrival;

use http::{HeaderMap, HeaderValue, Response};
use synod_store::{Error, ErrorKind};
use tonic::{Code, Status};

pub(crate) use arrival::{Arriving, Bounds, Part, bound_arrival};

/// What a request grows by on its way into etcd's log, where etcd measures it: a header with an id, and
/// the tag and length of the request inside.
const LOG_OVERHEAD: usize = 17;

/// Refuses a request of `bytes` that is larger than `most`, as etcd does.
pub(crate) fn check_size(bytes: usize, most: usize) -> Result<(), Error> {
    if bytes.saturating_add(LOG_OVERHEAD) > most {
        return Err(ErrorKind::TooLarge.into());
    }
    Ok(())
}

/// Gives the refusal of a message that is too large to be received etcd's code and text: clients
/// match on both.
pub(crate) fn name_oversize<B>(mut response: Response<B>) -> Response<B> {
    if let Some(text) = oversize(response.headers()) {
        let headers = response.headers_mut();
        headers.insert(
            Status::GRPC_STATUS,
            HeaderValue::from(Code::ResourceExhausted as i32),
        );
        headers.insert(Status::GRPC_MESSAGE, text);
    }
    response
}

/// etcd's text, when these headers refuse an oversized message in the transport's words.
fn oversize(headers: &HeaderMap) -> Option<HeaderValue> {
    if headers.get(Status::GRPC_STATUS)? != "11" {
        return None;
    }
    let status = Status::from_header_map(headers)?;
    oversize_status(&status).and_then(|ours| {
        ours.into_http::<()>()
            .headers_mut()
            .remove(Status::GRPC_MESSAGE)
    })
}

/// The refusal by gRPC's Go library, when this is the transport's, which names both sizes.
fn oversize_status(status: &Status) -> Option<Status> {
    let sizes = status
        .message()
        .strip_prefix("Error, decoded message length too large: found ")?;
    let (found, rest) = sizes.split_once(" bytes, the limit is: ")?;
    let limit = rest.strip_suffix(" bytes")?;
    Some(Status::resource_exhausted(format!(
        "grpc: received message larger than max ({found} vs. {limit})"
    )))
}

/// The same for the failure of a stream of requests.
pub(crate) fn name_oversize_status(status: Status) -> Status {
    oversize_status(&status).unwrap_or(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oversized_message_is_refused_in_etcds_words() {
        let theirs = Status::out_of_range(
            "Error, decoded message length too large: found 3000000 bytes, the limit is: 2097152 bytes",
        );
        let ours = name_oversize_status(theirs.clone());
        assert_eq!(ours.code(), Code::ResourceExhausted);
        assert_eq!(
            ours.message(),
            "grpc: received message larger than max (3000000 vs. 2097152)"
        );
        let response: Response<()> = name_oversize(theirs.into_http());
        let read = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(read.code(), ours.code());
        assert_eq!(read.message(), ours.message());
    }

    #[test]
    fn other_refusals_stay_as_they_are() {
        let compacted =
            Status::out_of_range("etcdserver: mvcc: required revision has been compacted");
        let response: Response<()> = name_oversize(compacted.clone().into_http());
        let read = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(read.code(), Code::OutOfRange);
        assert_eq!(read.message(), compacted.message());
    }

    #[test]
    fn a_request_is_measured_as_etcd_measures_it() {
        assert!(check_size(1000 - LOG_OVERHEAD, 1000).is_ok());
        assert_eq!(
            check_size(1001 - LOG_OVERHEAD, 1000).map_err(|error| error.kind()),
            Err(ErrorKind::TooLarge)
        );
    }
}
