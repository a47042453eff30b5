//! The stock kernels that this run has asked for so far: each is looked up once.

use super::headers;
use super::kernels::{KERNELS, Kernel};
use super::stock::Stock;
use crate::child::Interruption;
use std::cell::OnceCell;
use std::path::PathBuf;

/// Kernels by their place in the table.
pub struct Stocks<'run> {
    interruption: &'run Interruption,
    found: [OnceCell<Stock>; KERNELS.len()],
}

impl<'run> Stocks<'run> {
    /// None yet.
    pub fn new(interruption: &'run Interruption) -> Self {
        Self { interruption, found: Default::default() }
    }

    /// One of the table.
    pub fn get(&self, kernel: &Kernel) -> Result<&Stock, String> {
        let index = KERNELS.iter().position(|known| known.name == kernel.name);
        let (kernel, cell) = index
            .and_then(|index| Some((*KERNELS.get(index)?, self.found.get(index)?)))
            .ok_or_else(|| format!("{} is not in the table of kernels", kernel.name))?;
        if let Some(stock) = cell.get() {
            return Ok(stock);
        }
        let stock = Stock::newest(kernel, self.interruption)?;
        Ok(cell.get_or_init(|| stock))
    }

    /// Its headers, ready to build modules.
    pub fn headers(&self, kernel: &Kernel) -> Result<PathBuf, String> {
        headers::ready(kernel, self.interruption)
    }

    /// Several.
    pub fn these(&self, kernels: &[&Kernel]) -> Result<Vec<&Stock>, String> {
        kernels.iter().map(|kernel| self.get(kernel)).collect()
    }
}
