//! Tests that need something the machine may lack skip with a printed line, and fail where the
//! environment says that it should be there: `MPREC_REQUIRE=python,criteo`.

/// Says that a test is skipped because `what` is missing.
///
/// # Panics
///
/// If `MPREC_REQUIRE` lists `what`.
#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
pub fn skip(what: &str, why: &str) {
    let required = std::env::var("MPREC_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|name| name.trim() == what),
        "MPREC_REQUIRE asks for `{what}`: {why}"
    );
    eprintln!("SKIPPED, no {what}: {why}");
}
