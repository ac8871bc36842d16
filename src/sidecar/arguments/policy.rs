//! What can be asked about a policy.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand, Debug)]
pub enum PolicyCommand {
    /// Reports everything that is wrong with a policy.
    Lint {
        /// The policy.
        #[arg(default_value = "policy.yaml")]
        file: PathBuf,
        /// Folder of the packs that it takes contracts from.
        #[arg(long, value_name = "DIR")]
        packs: Option<PathBuf>,
    },
    /// Prints the policy hash, as receipts carry it.
    Hash {
        /// The policy.
        file: PathBuf,
    },
    /// Says what a policy decides about a call, and which rules it tried. The very code that judges traffic.
    Explain {
        /// The policy.
        file: PathBuf,
        /// Route that takes the call.
        #[arg(long, default_value = "")]
        route: String,
        /// Folder of the packs that it takes contracts from.
        #[arg(long, value_name = "DIR")]
        packs: Option<PathBuf>,
        /// Operation, as in `openai.chat.completions` or `mcp.tools/call`.
        #[arg(long)]
        operation: Option<String>,
        /// Path of the request, without its query: with `--method` it says which of the route's operations it is.
        #[arg(long, requires = "method", conflicts_with = "operation")]
        path: Option<String>,
        /// Model that the request names.
        #[arg(long)]
        model: Option<String>,
        /// Tool that the request offers. May be repeated.
        #[arg(long)]
        tool: Vec<String>,
        /// Tool that is called, with the JSON text that it is called with, as `fetch={"url":"https://example.com/"}`. May be
        /// repeated.
        #[arg(long, value_name = "NAME=JSON")]
        call: Vec<String>,
        /// JSON text of the request's body.
        #[arg(long, value_name = "JSON")]
        body: Option<String>,
        /// Method of the request; `--path` needs it.
        #[arg(long)]
        method: Option<String>,
        /// Proven identity.
        #[arg(long)]
        identity: Option<String>,
        /// Tenant that it belongs to.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Prints a policy in the one layout.
    Fmt {
        /// The policy.
        file: PathBuf,
        /// Only says whether it is laid out so; exit code 5 if not.
        #[arg(long)]
        check: bool,
    },
    /// Says what differs between two policies, by setting and by rule.
    Diff {
        /// The policy as it was.
        before: PathBuf,
        /// The policy as it is.
        after: PathBuf,
    },
    /// Judges the cases beside a policy.
    Test {
        /// The policy.
        file: PathBuf,
        /// Its cases. Default: beside it, `mine.cases.yaml` for `mine.yaml`.
        cases: Option<PathBuf>,
        /// Writes the results as JUnit XML to this new file.
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
    },
    /// Says which recorded calls a policy would have decided otherwise.
    Simulate(Simulate),
    /// Lists the threats that rules may name.
    Threats,
}

#[derive(Args, Debug)]
pub struct Simulate {
    /// Sealed bundles with the calls.
    #[arg(required = true)]
    pub bundles: Vec<PathBuf>,
    /// The candidate.
    #[arg(long)]
    pub policy: PathBuf,
    /// Folder of the packs that it takes contracts from.
    #[arg(long, value_name = "DIR")]
    pub packs: Option<PathBuf>,
    /// Trust document that the bundles are verified by.
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// A call that cannot be decided counts as a difference.
    #[arg(long)]
    pub strict: bool,
}
