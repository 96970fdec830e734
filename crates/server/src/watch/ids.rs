//! Which id a watch gets within its stream.

/// Why a watch gets no id: the one asked for is in use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Duplicate;

/// The ids of one stream.
#[derive(Debug, Default)]
pub(super) struct Ids {
    next: i64,
}

impl Ids {
    /// The id for a watch that asks for `wanted`; 0 asks for the next one that is not in use.
    /// Ids count up from 0, and one that was given back is not given again by itself.
    pub(super) fn take(
        &mut self,
        wanted: i64,
        used: impl Fn(i64) -> bool,
    ) -> Result<i64, Duplicate> {
        if wanted != 0 {
            return if used(wanted) {
                Err(Duplicate)
            } else {
                Ok(wanted)
            };
        }
        while used(self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let id = self.next;
        self.next = id.wrapping_add(1);
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_count_up_and_skip_those_in_use() {
        let mut ids = Ids::default();
        let mut used = HashSet::new();
        for (wanted, given) in [
            (0, Ok(0)),
            (2, Ok(2)),
            (0, Ok(1)),
            (0, Ok(3)),
            (2, Err(Duplicate)),
            (-7, Ok(-7)),
            (0, Ok(4)),
        ] {
            let id = ids.take(wanted, |id| used.contains(&id));
            assert_eq!(id, given);
            used.extend(id);
        }
    }

    #[test]
    fn an_id_that_is_free_again_is_given_only_to_who_asks_for_it() {
        let mut ids = Ids::default();
        assert_eq!(ids.take(0, |_| false), Ok(0));
        assert_eq!(ids.take(0, |_| false), Ok(1));
        assert_eq!(ids.take(1, |_| false), Ok(1));
    }
}
