//! The environment variables that `synod` reads, as an argument, so that tests need not set any.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::failure::{Failure, Result};

/// Environment variables. An empty one counts as not set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Env(HashMap<String, OsString>);

impl Env {
    /// Those of this process.
    pub(crate) fn of_process() -> Env {
        Env(std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect())
    }

    #[cfg(test)]
    pub(crate) fn of(variables: &[(&str, &str)]) -> Env {
        Env(variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect())
    }

    fn raw(&self, name: &str) -> Option<&OsString> {
        self.0.get(name).filter(|value| !value.is_empty())
    }

    /// A variable that must be text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>> {
        match self.raw(name) {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(Failure::usage(format!("${name} is not valid UTF-8"))),
            },
        }
    }

    /// A variable that names a path.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.raw(name).map(PathBuf::from)
    }

    /// The first of `names` that is set, with its name.
    pub(crate) fn first(&self, names: &[&'static str]) -> Result<Option<(&'static str, String)>> {
        for name in names {
            if let Some(value) = self.text(name)? {
                return Ok(Some((name, value)));
            }
        }
        Ok(None)
    }
}
