//! The server on a simulated link, with a fake of its disks.

mod address;
mod hostile;
mod link;
mod requests;
mod world;
