//! What the subcommands are given beside their own arguments.

/// What every subcommand of the command shares.
#[derive(Clone, Debug)]
pub struct Globals {
    /// The store.
    pub url: String,
    /// The namespace of lock names.
    pub namespace: String,
    /// JSON Lines on standard output.
    pub json: bool,
    /// Nothing on standard error but errors.
    pub quiet: bool,
    /// How much more to say.
    pub verbose: u8,
}
