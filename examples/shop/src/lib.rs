//! A small product to try multiactive with: orders by user, kept in PostgreSQL, MariaDB or MySQL, served from several units; a
//! load generator that records every acknowledged order, and a checker that finds each of them again.

pub mod catalog;
pub mod check;
pub mod database;
pub mod load;
pub mod picture;
pub mod service;
