//! The import hook in every Python 3 that is here: it reports what sys.modules says, and the application notices nothing.
//! Interpreters: `python3` and `python3.6` to `python3.15` on the path, and those of pyenv.

mod fixture;
mod kinds_of_start;
mod modules;
mod safety;
mod same;
mod unseen;
