//! The numbers or strings of one tensor in JSON: nested or flat, read without knowing the datatype, because
//! a document may state it after them.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, SeqAccess, Visitor,
};

use crate::endpoint::{MAX_RANK, Numbers};

/// Most numbers or strings in one JSON tensor: as many as the default body limit holds in binary. It bounds
/// the memory that short numbers such as `0,0,0` can ask for.
const MAX_NUMBERS: usize = 8 << 20;

/// What the `data` of a tensor held.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) numbers: Numbers,
    /// Strings, one after the other, and where each ends. There are none beside numbers.
    pub(super) texts: (Vec<u8>, Vec<usize>),
    /// Lengths of the arrays at every depth, as far as arrays were seen.
    lengths: [Option<usize>; MAX_RANK],
    /// Depth at which numbers or strings stand.
    depth: Option<usize>,
    problem: Option<&'static str>,
}

impl Data {
    /// What is wrong with the data whatever the shape says.
    pub(super) fn problem(&self) -> Option<&'static str> {
        self.problem
    }

    /// Whether the nesting agrees with `shape`. A flat list of the right length always does.
    pub(super) fn fits(&self, shape: &[usize]) -> bool {
        let nested = self.lengths.iter().flatten().count();
        self.len() == shape.iter().product::<usize>()
            && (nested <= 1
                || nested == shape.len()
                    && self.lengths.iter().flatten().zip(shape).all(|(got, want)| got == want))
    }

    fn len(&self) -> usize {
        self.numbers.len() + self.texts.1.len()
    }

    fn fail(&mut self, problem: &'static str) {
        // The first problem is the cause; later ones may only follow from it.
        self.problem.get_or_insert(problem);
    }

    /// Whether a number or string at `depth` may be stored.
    #[inline]
    fn takes(&mut self, depth: usize) -> bool {
        if self.depth != Some(depth) && self.depth.replace(depth).is_some() {
            self.fail("has values at different depths; nest it like its shape");
        }
        if self.len() >= MAX_NUMBERS {
            self.fail("has too many values for JSON; send it in binary");
        }
        self.problem.is_none()
    }

    #[inline]
    fn integer(&mut self, depth: usize, value: i64) {
        if self.takes(depth) {
            match &mut self.numbers {
                Numbers::Integers(values) => values.push(value),
                Numbers::Floats(values) => values.push(value as f32),
            }
        }
    }

    #[inline]
    fn float(&mut self, depth: usize, value: f64) {
        if self.takes(depth) {
            if let Numbers::Integers(values) = &self.numbers {
                self.numbers = Numbers::Floats(values.iter().map(|&value| value as f32).collect());
            }
            if let Numbers::Floats(values) = &mut self.numbers {
                values.push(value as f32);
            }
        }
    }

    fn text(&mut self, depth: usize, value: &str) {
        if self.takes(depth) {
            let (bytes, ends) = &mut self.texts;
            bytes.extend_from_slice(value.as_bytes());
            ends.push(bytes.len());
        }
    }

    fn array(&mut self, depth: usize, length: usize) {
        if self.lengths[depth].get_or_insert(length) != &length {
            self.fail("is ragged: arrays at one depth have different lengths");
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut data = Data {
            numbers: Numbers::Integers(Vec::new()),
            texts: Default::default(),
            lengths: [None; MAX_RANK],
            depth: None,
            problem: None,
        };
        Element { data: &mut data, depth: 0 }.deserialize(deserializer)?;
        Ok(data)
    }
}

/// A number, a string, or an array of elements.
struct Element<'a> {
    data: &'a mut Data,
    depth: usize,
}

impl Element<'_> {
    fn alone<E: Error>(&self, is_alone: bool) -> Result<(), E> {
        if is_alone { Ok(()) } else { Err(E::custom("numbers and strings in one tensor")) }
    }
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .write_str("numbers or strings, in arrays nested like the shape or in one flat array")
    }

    #[inline]
    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.alone(self.data.texts.1.is_empty())?;
        self.data.integer(self.depth, value);
        Ok(())
    }

    #[inline]
    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.alone(self.data.texts.1.is_empty())?;
        match i64::try_from(value) {
            Ok(value) => self.data.integer(self.depth, value),
            // Beyond INT64. As a float it is right for FP32, and an error for integers.
            Err(_) => self.data.float(self.depth, value as f64),
        }
        Ok(())
    }

    #[inline]
    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.alone(self.data.texts.1.is_empty())?;
        self.data.float(self.depth, value);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.alone(self.data.numbers.len() == 0)?;
        self.data.text(self.depth, value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        if self.depth == MAX_RANK {
            self.data.fail("is nested too deeply");
            while elements.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        let mut length = 0;
        while elements
            .next_element_seed(Element { data: &mut *self.data, depth: self.depth + 1 })?
            .is_some()
        {
            length += 1;
        }
        self.data.array(self.depth, length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Data {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn nested_and_flat_data_hold_the_same_numbers() {
        for json in ["[[1, 2, 3], [4, 5, 6]]", "[1,2,3,4,5,6]"] {
            let data = read(json);
            assert_eq!(data.numbers, Numbers::Integers(vec![1, 2, 3, 4, 5, 6]));
            assert!(data.fits(&[2, 3]) && data.problem().is_none());
            assert!(!data.fits(&[2, 4]));
        }
        assert!(read("[1,2,3,4,5,6]").fits(&[3, 2]));
        assert!(!read("[[1,2,3],[4,5,6]]").fits(&[3, 2]));
        assert!(read("[[[1],[2]]]").fits(&[1, 2, 1]));
        assert!(!read("[[[1],[2]]]").fits(&[1, 2]));
        assert!(read("[]").fits(&[0, 3]));
        assert!(read("[[],[]]").fits(&[2, 0]));
    }

    #[test]
    fn one_float_makes_all_of_them_floats() {
        assert_eq!(read("[1, 2.5, -3]").numbers, Numbers::Floats(vec![1.0, 2.5, -3.0]));
        let beyond = read("[9223372036854775808]");
        assert_eq!(beyond.numbers, Numbers::Floats(vec![9_223_372_036_854_775_808.0]));
        assert_eq!(read("[-9223372036854775808]").numbers, Numbers::Integers(vec![i64::MIN]));
    }

    #[test]
    fn strings_are_kept_as_they_are() {
        for json in [r#"[["a", ""], ["\u00e9\n", "b"]]"#, r#"["a", "", "\u00e9\n", "b"]"#] {
            let data = read(json);
            assert_eq!(data.texts, ("aé\nb".as_bytes().to_vec(), vec![1, 1, 4, 5]));
            assert!(data.fits(&[2, 2]) && data.problem().is_none());
            assert!(!data.fits(&[2, 3]));
        }
        for json in [r#"["a", 1]"#, r#"[1, "a"]"#, r#"[1.5, "a"]"#] {
            assert!(serde_json::from_str::<Data>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn nesting_that_is_no_tensor_is_named() {
        for (json, word) in [
            ("[[1,2],[3]]", "ragged"),
            ("[1,[2]]", "depths"),
            ("3", ""),
            ("[[[[[[[[[1]]]]]]]]]", "deeply"),
        ] {
            let data = read(json);
            let fits = data.problem().is_none() && data.fits(&[1]);
            assert_eq!(data.problem().is_some(), !word.is_empty(), "{json}");
            assert!(data.problem().unwrap_or_default().contains(word), "{json}");
            assert_eq!(fits, word.is_empty(), "{json}");
        }
        for json in ["[null]", "{}", "[true]", "[NaN]", "[1e999]", "[1,"] {
            assert!(serde_json::from_str::<Data>(json).is_err(), "{json}");
        }
    }
}
