mod control;
pub(crate) mod port;
mod receive;
mod transmit;
