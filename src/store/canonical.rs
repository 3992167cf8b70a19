//! One spelling for each JSON value, so that everybody who hashes it hashes the same bytes.
//!
//! It is that of RFC 8785 (JSON Canonicalization Scheme): no white space, members in the
//! order of their names' UTF-16 code units, texts escaped no more than JSON demands, numbers
//! as ECMAScript writes them. Beyond it, whole numbers of 64 bits keep all their digits, also
//! where a double would round them.

use serde_json::{Map, Number, Value};

/// Appends the value's one spelling.
pub(super) fn write(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => write_members(out, members),
    }
}

/// Appends a text in quotes.
pub(super) fn write_text(out: &mut String, text: &str) {
    // A text always serialises, and with no more escapes than the scheme has.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn write_members(out: &mut String, members: &Map<String, Value>) {
    let mut members: Vec<_> = members.iter().collect();
    // The map's own order is that of UTF-8, which differs beyond the first plane.
    members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    out.push('{');
    for (index, (name, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(out, name);
        out.push(':');
        write(out, value);
    }
    out.push('}');
}

fn write_number(out: &mut String, number: &Number) {
    match number.as_f64() {
        Some(double) if number.is_f64() => write_double(out, double),
        _ => out.push_str(&number.to_string()),
    }
}

/// As ECMAScript's `Number::toString` has it.
fn write_double(out: &mut String, double: f64) {
    if double == 0.0 {
        out.push('0');
        return;
    }
    if double < 0.0 {
        out.push('-');
    }
    // The fewest digits that come back as the same double.
    let shortest = format!("{:e}", double.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits = mantissa.replace('.', "");
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // Where the decimal point is, counted from the first digit.
    let point = exponent.parse::<i32>().unwrap_or_default() + 1;
    let zeros = |number: i32| "0".repeat(usize::try_from(number).unwrap_or_default());
    let split = |at: i32| digits.split_at(usize::try_from(at).unwrap_or_default());
    if (count..=21).contains(&point) {
        out.push_str(&digits);
        out.push_str(&zeros(point - count));
    } else if (1..=21).contains(&point) {
        let (whole, fraction) = split(point);
        out.push_str(&format!("{whole}.{fraction}"));
    } else if (-5..=0).contains(&point) {
        out.push_str(&format!("0.{}{digits}", zeros(-point)));
    } else {
        let (first, rest) = split(1);
        let dot = if rest.is_empty() { "" } else { "." };
        out.push_str(&format!("{first}{dot}{rest}e{:+}", point - 1));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> String {
        let mut out = String::new();
        write(&mut out, value);
        out
    }

    #[test]
    fn numbers_are_written_as_ecmascript_does() {
        // From the examples of RFC 8785, appendix B.
        for (double, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (5e-324, "5e-324"),
            (-5e-324, "-5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (295_147_905_179_352_830_000.0, "295147905179352830000"),
            (9.999_999_999_999_997e22, "9.999999999999997e+22"),
            (1e23, "1e+23"),
            (999_999_999_999_999_700_000.0, "999999999999999700000"),
            (1e21, "1e+21"),
            (9.999_999_999_999_997e-7, "9.999999999999997e-7"),
            (0.000_001, "0.000001"),
            (333_333_333.333_333_3, "333333333.3333333"),
            (0.002, "0.002"),
            (4.5, "4.5"),
            (1e30, "1e+30"),
        ] {
            assert_eq!(text(&json!(double)), expected);
        }
        assert_eq!(text(&json!(u64::MAX)), "18446744073709551615");
        assert_eq!(text(&json!(i64::MIN)), "-9223372036854775808");
    }

    #[test]
    fn members_are_in_the_order_of_utf_16_and_texts_hardly_escaped() {
        let value =
            json!({ "\u{fb33}": 1, "\u{1f600}": 2, "b": [true, null], "a\n": "\u{1f}€\"\\/" });
        assert_eq!(
            text(&value),
            "{\"a\\n\":\"\\u001f€\\\"\\\\/\",\"b\":[true,null],\"\u{1f600}\":2,\"\u{fb33}\":1}"
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            // No more digits than the reader of JSON is exact for.
            any::<i32>().prop_map(|n| Value::from(f64::from(n) / 16.0)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_double_is_spelled_so_that_it_comes_back(double in any::<f64>()) {
            let mut out = String::new();
            write_double(&mut out, double);
            prop_assert_eq!(out.parse::<f64>(), Ok(double));
        }

        #[test]
        fn what_is_read_again_is_spelled_the_same(value in any_json()) {
            let once = text(&value);
            let again: Value = serde_json::from_str(&once).unwrap();
            prop_assert_eq!(text(&again), once);
        }
    }
}
