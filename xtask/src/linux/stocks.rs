//! The stock kernels that this run has asked for so far: each is looked up once.

use super::kernels::{CHECKED, KERNELS, Kernel};
use super::stock::Stock;
use super::{checked, headers};
use crate::child::Interruption;
use std::cell::OnceCell;
use std::path::PathBuf;

/// Kernels by their place in the table.
pub struct Stocks<'run> {
    interruption: &'run Interruption,
    found: [OnceCell<Stock>; KERNELS.len()],
    /// The one that is built here, and the folder that modules are built against.
    checked: OnceCell<(Stock, PathBuf)>,
}

impl<'run> Stocks<'run> {
    /// None yet.
    pub fn new(interruption: &'run Interruption) -> Self {
        Self { interruption, found: Default::default(), checked: OnceCell::new() }
    }

    /// One of the table.
    pub fn get(&self, kernel: &Kernel) -> Result<&Stock, String> {
        if kernel.name == CHECKED.name {
            return self.checked().map(|(stock, _)| stock);
        }
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
        if kernel.name == CHECKED.name {
            return self.checked().map(|(_, build)| build.clone());
        }
        headers::ready(kernel, self.interruption)
    }

    fn checked(&self) -> Result<&(Stock, PathBuf), String> {
        if let Some(checked) = self.checked.get() {
            return Ok(checked);
        }
        let checked = checked::ready(self.interruption)?;
        Ok(self.checked.get_or_init(|| checked))
    }

    /// Several.
    pub fn these(&self, kernels: &[&Kernel]) -> Result<Vec<&Stock>, String> {
        kernels.iter().map(|kernel| self.get(kernel)).collect()
    }
}
