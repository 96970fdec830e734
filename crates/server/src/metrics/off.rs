//! Without the feature `metrics` nobody counts: what would be told to is of a type without values.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

/// How a login ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Login {
    Accepted,
    Refused,
    Busy,
}

/// There is none.
#[derive(Debug)]
pub(crate) enum Metrics {}

/// Of a request that is never counted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Method {}

impl Metrics {
    pub(crate) fn login(&self, _: Login) {
        match *self {}
    }

    pub(crate) fn method(&self, _: &str) -> Method {
        match *self {}
    }

    pub(crate) fn answered(&self, _: Method, _: StatusCode, _: &HeaderMap, _: Duration) {
        match *self {}
    }
}
