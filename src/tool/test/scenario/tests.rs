use super::{time::span, *};

fn problem(text: &str) -> (usize, String) {
    let Malformed { line, problem } = Scenario::read(text).unwrap_err();
    (line, problem)
}

#[test]
fn steps_know_their_lines() {
    let text = "[users]\nalice = { id = 7 }\n\n[[step]]\njoin = \"alice\"\n\n\
                [[step]]\nproduce = \"alice\"\nexpect.refused = \"NO\"\n";
    let scenario = Scenario::read(text).unwrap();
    let lines: Vec<_> = scenario.steps.iter().map(|step| step.line).collect();
    assert_eq!(lines, [4, 7]);
    let produce = scenario.steps.last().unwrap();
    assert_eq!(produce.expect.refused.as_deref(), Some("NO"));
    assert_eq!(produce.deed.to_string(), "produce = \"alice\"");
}

#[test]
fn mistakes_are_told_with_their_line() {
    let step = |rest: &str| problem(&format!("[[step]]\njoin = \"a\"\n\n[[step]]\n{rest}"));
    let (line, text) = step("leave = \"a\"\npayload = {}");
    assert_eq!(
        (line, text.as_str()),
        (4, "`payload` does not belong to `leave`")
    );
    let (line, text) = step("join = \"a\"\nleave = \"a\"");
    assert_eq!(
        (line, text.as_str()),
        (4, "`leave` does not belong to `join`")
    );
    assert_eq!(step("consume = \"a\"").1, "`consume` needs `from`");
    assert_eq!(step("replace-instance = false").0, 5);
    let (line, text) = step("expect.refuse = \"NO\"");
    assert!(line == 5 && text.contains("`refuse`"), "{line}: {text}");
    let (_, text) = step("advance = \"soon\"");
    assert!(text.contains("\"soon\" is no time"), "{text}");
    assert!(step("room = \"lobby\"").1.contains("does something"));
    assert!(problem("").1.contains("[[step]]"));
}

#[test]
fn times_are_written_as_people_do() {
    assert_eq!(span("90s"), Some(Duration::from_secs(90)));
    assert_eq!(span("2 h"), Some(Duration::from_secs(7200)));
    assert_eq!(span("1d"), Some(Duration::from_secs(86_400)));
    for wrong in ["", "s", "1", "1w", "-1s", "99999999999999999999s"] {
        assert_eq!(span(wrong), None, "{wrong}");
    }
}

#[test]
fn the_start_is_a_moment() {
    let start = |text: &str| {
        let step = "[[step]]\nrestart = true";
        Scenario::read(&format!("start = {text}\n{step}")).map(|scenario| scenario.start.0)
    };
    assert_eq!(start("1970-01-01T00:00:00Z"), Ok(0));
    assert_eq!(start("2024-02-29T23:59:59.5Z"), Ok(1_709_251_199_500));
    assert_eq!(start("2030-01-01T01:00:00+01:00"), Ok(1_893_456_000_000));
    assert!(start("2030-01-01").is_err());
    assert!(start("1969-01-01T00:00:00Z").is_err());
}
