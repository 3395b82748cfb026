//! Assembly: builds the parts, starts, drains and stops them, and shows them over HTTP.

pub mod admin;
#[cfg(test)]
mod deploy;
