//! The router's tests, against real sockets, agents' answers and routing tables.
//! One program: each more would be linked with all that it needs.

mod agent_behind;
mod common;
mod draining;
mod floor;
mod in_flight;
mod in_order;
mod large_table;
mod moving;
mod owner_lost;
mod peers;
mod program;
mod refused;
mod routing;
mod single_writer;
mod two_readings;
mod without_lease;
