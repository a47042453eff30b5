mod control;
mod port;
mod receive;
mod transmit;
