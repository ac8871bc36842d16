//! The journal from outside: what is acknowledged is there, what is there is right, and no failure changes that.

mod disk;
mod faults;
mod kit;
mod seal;
mod write;
