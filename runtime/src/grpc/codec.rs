//! From the bytes of a message to the message, and back.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Status,
    codec::{DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::{admit::admit, status};
use crate::endpoint::ApiError;

/// Sends `T`s and reads `U`s, whose errors are the client's fault and say so.
#[derive(Debug)]
pub(super) struct Codec<T, U>(PhantomData<(T, U)>);

/// Writes messages.
#[derive(Debug)]
pub(super) struct Writer<T>(PhantomData<T>);

/// Reads messages that [`admit`] lets in.
#[derive(Debug)]
pub(super) struct Reader<U>(PhantomData<U>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Writer<T>;
    type Decoder = Reader<U>;

    fn encoder(&mut self) -> Writer<T> {
        Writer(PhantomData)
    }

    fn decoder(&mut self) -> Reader<U> {
        Reader(PhantomData)
    }
}

impl<T: Message> Encoder for Writer<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer).expect("a growing buffer has room");
        Ok(())
    }
}

impl<U: Message + Default + 'static> Decoder for Reader<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        use hyper::body::Buf as _;

        // Splits the buffer and copies nothing; tensors stay parts of it.
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let message = admit::<U>(&bytes).and_then(|()| {
            U::decode(bytes).map_err(|error| ApiError::BadMessage { message: error.to_string() })
        });
        message.map(Some).map_err(|error| status::of(&error))
    }
}
