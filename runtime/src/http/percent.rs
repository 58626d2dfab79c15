//! Percent-encoding of one segment of a URL's path.

use std::{borrow::Cow, fmt::Write as _};

/// Undoes percent-encoding; `None` for a wrong escape, for text that is not UTF-8, and for an
/// empty name.
pub(crate) fn decode(part: &str) -> Option<Cow<'_, str>> {
    if part.is_empty() {
        return None;
    }
    if !part.contains('%') {
        return Some(Cow::Borrowed(part));
    }
    let mut bytes = part.bytes();
    let mut decoded = Vec::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// Escapes all but the characters that need no escape in any part of a URL.
pub(crate) fn encode(part: &str) -> String {
    let mut encoded = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(name in ".{1,20}") {
            let encoded = encode(&name);
            prop_assert!(encoded.is_ascii() && !encoded.contains('/'));
            prop_assert_eq!(decode(&encoded).unwrap(), name);
        }
    }
}
