//! What bounds a row whose goal is not reached, as far as it is known: the one thing on the page that
//! is said and not computed. It holds no figure.

/// Rows whose names begin so, and what bounds them; the first that fits.
const BOUNDS: &[(&str, &str)] = &[];

/// What bounds a row.
pub(super) fn bound(row: &str) -> &'static str {
    let found = BOUNDS.iter().find(|(name, _)| row.starts_with(name));
    found.map_or("not known yet", |(_, why)| why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_about_a_row_and_says_no_figure() {
        let rows = super::super::rows::rows();
        for (name, why) in BOUNDS {
            assert!(rows.iter().any(|row| row.name.starts_with(name)), "{name}");
            assert!(!why.is_empty(), "{name}");
            assert_eq!(bound(name), *why, "one before it hides {name}");
        }
        assert_eq!(bound("no such row"), "not known yet");
    }
}
