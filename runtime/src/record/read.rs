//! A log, event by event.

use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read},
    path::Path,
};

use super::{
    Ending, Event, Header, MAX_BLOCK, RecordError,
    decode::{Decoder, Record},
    varint::Stop,
    writer::BLOCK_HEAD,
};

/// Reads a log from its beginning. Memory stays at the size of a block, or of the longest record.
#[derive(Debug)]
pub struct LogReader<R> {
    header: Header,
    from: R,
    decoder: Decoder,
    /// Payloads that were read, of which `..at` is used up.
    payload: Vec<u8>,
    at: usize,
    /// Where in the file the next block begins.
    offset: u64,
    events: u64,
    ending: Option<Ending>,
    is_cut_off: bool,
}

impl LogReader<BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if it cannot be read, is no log, or has a damaged header.
    pub fn open(file: &Path) -> Result<Self, RecordError> {
        Self::new(BufReader::new(File::open(file).map_err(RecordError::Read)?))
    }
}

impl<R: Read> LogReader<R> {
    /// Begins to read.
    ///
    /// # Errors
    ///
    /// As [`LogReader::open`].
    pub fn new(mut from: R) -> Result<Self, RecordError> {
        let (header, offset) = Header::read(&mut from)?;
        let decoder = Decoder::new(&header.profiles);
        let (payload, at, events) = (Vec::new(), 0, 0);
        let (ending, is_cut_off) = (None, false);
        Ok(Self { header, from, decoder, payload, at, offset, events, ending, is_cut_off })
    }

    /// What the router was made of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How many events were read so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Bytes of the file that were read so far.
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// Why the log ends; `None` before its end.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// The next event; `None` at the end, for which [`LogReader::ending`] has the reason.
    ///
    /// # Errors
    ///
    /// [`RecordError::Damaged`] where the bytes are not what was written, and
    /// [`RecordError::Read`]. What came before is sound.
    pub fn next_event(&mut self) -> Result<Option<Event>, RecordError> {
        if self.ending.is_some() {
            return Ok(None);
        }
        loop {
            match self.decoder.record(&self.payload[self.at..]) {
                Ok((Record::Event(event), bytes)) => {
                    self.at += bytes;
                    self.events += 1;
                    return Ok(Some(event));
                }
                Ok((Record::Ended(ending, events), _)) => {
                    if events != self.events {
                        return Err(self.damaged("its last record counts other events"));
                    }
                    self.ending = Some(ending);
                    return Ok(None);
                }
                Err(Stop::Incomplete) if self.is_cut_off => {
                    self.ending = Some(Ending::CutOff);
                    return Ok(None);
                }
                Err(Stop::Incomplete) => self.read_block()?,
                Err(Stop::Wrong(what)) => return Err(self.damaged(what)),
            }
        }
    }

    /// Appends the next block to the payload. What there is of a block that was cut off is appended too; no checksum
    /// can vouch for it.
    fn read_block(&mut self) -> Result<(), RecordError> {
        self.payload.drain(..self.at);
        self.at = 0;
        let mut head = [0; BLOCK_HEAD];
        if fill(&mut self.from, &mut head)? < head.len() {
            self.is_cut_off = true;
            return Ok(());
        }
        let number =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (length, checksum) = (number(0) as usize, number(8));
        if crc32fast::hash(&head[..4]) != number(4) || !(1..=MAX_BLOCK).contains(&length) {
            return Err(self.damaged("a block's length is not what was written"));
        }
        let start = self.payload.len();
        self.payload.resize(start + length, 0);
        let read = fill(&mut self.from, &mut self.payload[start..])?;
        self.payload.truncate(start + read);
        if read < length {
            self.is_cut_off = true;
        } else if crc32fast::hash(&self.payload[start..]) != checksum {
            return Err(self.damaged("a block's checksum is another"));
        }
        self.offset += (head.len() + read) as u64;
        Ok(())
    }

    fn damaged(&self, what: &'static str) -> RecordError {
        RecordError::Damaged { offset: self.offset, what }
    }
}

/// Reads until the buffer is full or the file ends; returns how much was read.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize, RecordError> {
    let mut read = 0;
    while read < buffer.len() {
        match from.read(&mut buffer[read..]) {
            Ok(0) => break,
            Ok(bytes) => read += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(RecordError::Read(error)),
        }
    }
    Ok(read)
}
