//! The lanes, as data: what each protects, what it needs, what it runs, how long it may take.
//!
//! To add one, add an entry: nothing else knows their names. Quick ones first; a lane's steps stop at the first failure.

mod check;
mod test;

use crate::lane::Lane;

/// Every lane, in the order they run.
pub fn lanes() -> impl Iterator<Item = &'static Lane> + Clone {
    check::LANES.iter().chain(test::LANES)
}
