//! Kubernetes quantities, as far as they have to be understood.

/// Whether the text is a quantity: `100m`, `1.5`, `128Mi`, `1e3`.
pub(crate) fn is_quantity(text: &str) -> bool {
    number_and_suffix(text).is_some()
}

/// CPUs, rounded up to whole ones.
pub(crate) fn whole_cpus(text: &str) -> Option<u32> {
    let (number, suffix) = number_and_suffix(text)?;
    let factor = match suffix {
        "" => 1.0,
        "m" => 1e-3,
        "u" => 1e-6,
        "n" => 1e-9,
        _ => return None,
    };
    let cpus = (number * factor).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 1024"
    )]
    (1.0..=1024.0).contains(&cpus).then_some(cpus as u32)
}

fn number_and_suffix(text: &str) -> Option<(f64, &str)> {
    let digits = text.trim_start_matches(['+', '-']);
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    let (number, suffix) = digits.split_at(end);
    let number: f64 = number.parse().ok()?;
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|rest| rest.parse::<i8>().is_ok());
    let known =
        ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    (exponent || known.contains(&suffix)).then_some((number, suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_told_from_other_texts() {
        for good in ["1", "1.5", "100m", "128Mi", "1e3", "2G"] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in ["", "much", "1 Gi", "1MiB", "m", "1.2.3"] {
            assert!(!is_quantity(bad), "{bad}");
        }
        assert_eq!(whole_cpus("2"), Some(2));
        assert_eq!(whole_cpus("1500m"), Some(2));
        assert_eq!(whole_cpus("100m"), Some(1));
        assert_eq!(whole_cpus("1Gi"), None);
    }
}
