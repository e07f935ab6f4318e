//! The judge, judged: for each rule a wrong history that it must find and a right one that it must not; a cross-check
//! against a brute-force search that shares no code with it; the command.

mod brute;
mod command;
mod cross;
mod forged;
mod rules;
mod script;
mod twin;
mod windows;
