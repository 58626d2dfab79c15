//! The encoders of DHEs: the native backend's kernels on a CPU, libtorch's arithmetic on a GPU.

use mprec_representations::{HashFamily, Transform};
use tch::{Device, Kind, TchError, Tensor};

use super::{
    constant::Uploader,
    hash::Families,
    inputs::{Ids, Inputs, blob},
    plan::Member,
};
use crate::cpu::{
    hash_encode::{self, Encoder, Kernel},
    matrix::MatrixMut,
};

/// Encoders of one number of hashes and one transform.
#[derive(Debug)]
pub(super) struct Encode {
    hashes: usize,
    members: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Here { encoders: Vec<Encoder>, kernel: Kernel },
    There(Families),
}

impl Encode {
    pub(super) fn new(
        families: Vec<&HashFamily>,
        transform: Transform,
        uploader: &mut Uploader,
    ) -> Result<Self, TchError> {
        let (hashes, members) = (families[0].len(), families.len());
        let place = if uploader.device == Device::Cpu {
            let encoders: Vec<Encoder> = families
                .into_iter()
                .map(|family| Encoder::new(family.clone(), transform))
                .collect();
            uploader.bytes += encoders.iter().map(Encoder::bytes).sum::<usize>();
            let kernel = hash_encode::available()[0];
            Place::Here { encoders, kernel }
        } else {
            Place::There(Families::new(&families, transform, uploader)?)
        };
        Ok(Self { hashes, members, place })
    }

    /// Codes of all members, each `[ids, hashes]`, or as one `[members, samples, hashes]` with one id per sample.
    ///
    /// # Safety
    ///
    /// The codes, and views of them, must be gone before `room` is used again.
    pub(super) unsafe fn run(
        &self,
        inputs: &Inputs<'_>,
        members: &[Member],
        ids: impl Fn() -> Result<Tensor, TchError>,
        room: &mut Vec<f32>,
    ) -> Result<Vec<Tensor>, TchError> {
        match (&self.place, &inputs.ids) {
            // SAFETY: as this function asks.
            (Place::Here { encoders, kernel }, _) => unsafe {
                self.here(encoders, *kernel, inputs, members, room)
            },
            (Place::There(families), Ids::OneHot(_)) => Ok(vec![families.encode(&ids()?, None)?]),
            (Place::There(families), Ids::Bags(bags)) => members
                .iter()
                .enumerate()
                .map(|(at, member)| families.encode(&bags[member.feature].ids, Some(at)))
                .collect(),
        }
    }

    /// # Safety
    ///
    /// As [`run`](Self::run).
    unsafe fn here(
        &self,
        encoders: &[Encoder],
        kernel: Kernel,
        inputs: &Inputs<'_>,
        members: &[Member],
        room: &mut Vec<f32>,
    ) -> Result<Vec<Tensor>, TchError> {
        let range = |member: &Member| match &inputs.ids {
            Ids::OneHot(_) => inputs.samples.clone(),
            Ids::Bags(bags) => bags[member.feature].range.clone(),
        };
        let counts: Vec<usize> = members.iter().map(|member| range(member).len()).collect();
        let total = counts.iter().sum::<usize>() * self.hashes;
        if room.len() < total {
            room.resize(total, 0.0);
        }
        let mut rest = &mut room[..total];
        for ((member, encoder), &count) in members.iter().zip(encoders).zip(&counts) {
            let (codes, after) = rest.split_at_mut(count * self.hashes);
            let ids = &inputs.batch.bags(member.feature).ids()[range(member)];
            (kernel.encode)(encoder, ids, MatrixMut::new(codes, count, self.hashes, self.hashes));
            rest = after;
        }
        let all = &room[..total];
        if let (Ids::OneHot(_), true) = (&inputs.ids, self.members > 1) {
            let shape = [self.members, inputs.samples.len(), self.hashes];
            // SAFETY: as the caller promises.
            return Ok(vec![unsafe { blob(all, &shape, Kind::Float) }?]);
        }
        let mut start = 0;
        let parts = counts.iter().map(|&count| {
            let part = &all[start..start + count * self.hashes];
            start += part.len();
            // SAFETY: as the caller promises.
            unsafe { blob(part, &[count, self.hashes], Kind::Float) }
        });
        parts.collect()
    }

    /// Bytes of temporary values per sample.
    pub(super) fn scratch(&self) -> usize {
        match self.place {
            Place::Here { .. } => 0,
            // Integers, twice, and floats on their way to codes.
            Place::There(_) => 24 * self.members * self.hashes,
        }
    }
}
