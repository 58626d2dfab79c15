//! Integers in as few bytes as they need: seven bits a byte, the lowest first.

/// Why no value could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bytes end within it.
    Incomplete,
    /// No encoder writes this.
    Wrong(&'static str),
}

pub(super) fn put(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// A difference, which is small in either direction when `value` is near `before`.
pub(super) fn put_near(into: &mut Vec<u8>, value: u64, before: u64) {
    let difference = value.wrapping_sub(before) as i64;
    put(into, ((difference << 1) ^ (difference >> 63)) as u64);
}

/// Bytes being read.
#[derive(Debug)]
pub(super) struct Input<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Input<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        let byte = *self.bytes.get(self.at).ok_or(Stop::Incomplete)?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn number(&mut self) -> Result<u64, Stop> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(Stop::Wrong("a number exceeds 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Stop::Wrong("a number exceeds 64 bits"))
    }

    /// A number of at most `most`.
    pub(super) fn within(&mut self, most: u64, what: &'static str) -> Result<u64, Stop> {
        let value = self.number()?;
        if value <= most { Ok(value) } else { Err(Stop::Wrong(what)) }
    }

    pub(super) fn near(&mut self, before: u64) -> Result<u64, Stop> {
        let coded = self.number()?;
        let difference = (coded >> 1) as i64 ^ -((coded & 1) as i64);
        Ok(before.wrapping_add(difference as u64))
    }

    pub(super) fn float(&mut self) -> Result<f64, Stop> {
        let end = self.at + 8;
        let bytes = self.bytes.get(self.at..end).ok_or(Stop::Incomplete)?;
        self.at = end;
        let bytes = bytes.try_into().map_err(|_| Stop::Incomplete)?;
        Ok(f64::from_bits(u64::from_le_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_return_as_they_were(value: u64, before: u64, float: f64) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            put_near(&mut bytes, value, before);
            bytes.extend(float.to_bits().to_le_bytes());
            let mut input = Input::new(&bytes);
            prop_assert_eq!(input.number(), Ok(value));
            prop_assert_eq!(input.near(before), Ok(value));
            prop_assert_eq!(input.float().map(f64::to_bits), Ok(float.to_bits()));
            prop_assert_eq!(input.left(), 0);
            for cut in 0..bytes.len() {
                let mut input = Input::new(&bytes[..cut]);
                let all = [input.number(), input.near(before), input.float().map(f64::to_bits)];
                prop_assert_eq!(all[2], Err(Stop::Incomplete));
            }
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_wrong() {
        for last in [2, 0x80] {
            let bytes = [[0xff; 9].as_slice(), &[last, 0]].concat();
            assert!(matches!(Input::new(&bytes).number(), Err(Stop::Wrong(_))));
        }
    }
}
