//! Times as text.

use crate::model::UnixMs;

/// ISO 8601 in UTC with milliseconds, for example `2026-02-09T12:30:00.250Z`.
pub(super) fn time(at: UnixMs) -> String {
    let (seconds, millis) = (at.0 / 1000, at.0 % 1000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The Gregorian date of a day, counted from 1970-01-01. Years start in March
/// here, so that the leap day is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    // Days from 0000-03-01, in eras of 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, "1970-01-01T00:00:00.000Z")]
    #[case(951_782_399_999, "2000-02-28T23:59:59.999Z")]
    #[case(951_782_400_000, "2000-02-29T00:00:00.000Z")]
    #[case(951_868_800_000, "2000-03-01T00:00:00.000Z")]
    #[case(1_770_640_200_250, "2026-02-09T12:30:00.250Z")]
    #[case(4_107_542_399_001, "2100-02-28T23:59:59.001Z")]
    #[case(4_107_542_400_000, "2100-03-01T00:00:00.000Z")]
    fn times_are_written_as_iso_8601(#[case] at: u64, #[case] text: &str) {
        assert_eq!(time(UnixMs(at)), text);
    }
}
