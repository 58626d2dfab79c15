//! Reports that people look at: pages that need nothing but a browser.

pub mod chart;
pub mod heat;
mod page;

pub use page::Page;
