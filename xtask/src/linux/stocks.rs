//! The kernels that this run has asked for so far: each is looked up, or built, once.

use super::kernels::{BUILT, KERNELS, Kernel};
use super::stock::Stock;
use super::{builds, headers};
use crate::child::Interruption;
use crate::workspace::Workspace;
use std::cell::OnceCell;
use std::path::PathBuf;

/// Kernels by their place in the tables.
pub struct Stocks<'run> {
    workspace: &'run Workspace,
    interruption: &'run Interruption,
    found: [OnceCell<Stock>; KERNELS.len()],
    /// Those that are built here, and the folder that modules are built against.
    built: [OnceCell<(Stock, PathBuf)>; BUILT.len()],
}

impl<'run> Stocks<'run> {
    /// None yet.
    pub fn new(workspace: &'run Workspace, interruption: &'run Interruption) -> Self {
        Self { workspace, interruption, found: Default::default(), built: Default::default() }
    }

    /// One of the tables.
    pub fn get(&self, kernel: &Kernel) -> Result<&Stock, String> {
        if let Some(built) = self.built(kernel) {
            return built.map(|(stock, _)| stock);
        }
        let index = place(&KERNELS, kernel).ok_or_else(|| format!("{} is not in the table of kernels", kernel.name))?;
        let (Some(kernel), Some(cell)) = (KERNELS.get(index), self.found.get(index)) else {
            return Err(format!("{} has no place in the table of kernels", kernel.name));
        };
        if let Some(stock) = cell.get() {
            return Ok(stock);
        }
        let stock = Stock::newest(kernel, self.interruption)?;
        Ok(cell.get_or_init(|| stock))
    }

    /// Its headers, ready to build modules.
    pub fn headers(&self, kernel: &Kernel) -> Result<PathBuf, String> {
        match self.built(kernel) {
            Some(built) => built.map(|(_, build)| build.clone()),
            None => headers::ready(kernel, self.interruption),
        }
    }

    /// Several.
    pub fn these(&self, kernels: &[&Kernel]) -> Result<Vec<&Stock>, String> {
        kernels.iter().map(|kernel| self.get(kernel)).collect()
    }

    fn built(&self, kernel: &Kernel) -> Option<Result<&(Stock, PathBuf), String>> {
        let cell = self.built.get(place(&BUILT, kernel)?)?;
        if let Some(built) = cell.get() {
            return Some(Ok(built));
        }
        let built = builds::ready(kernel, self.workspace, self.interruption);
        Some(built.map(|built| cell.get_or_init(|| built)))
    }
}

fn place(table: &[&Kernel], kernel: &Kernel) -> Option<usize> {
    table.iter().position(|known| known.name == kernel.name)
}
