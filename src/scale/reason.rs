//! Why there are to be so many workers.

use std::fmt;
use std::time::Duration;

/// Why a decision is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is nothing to do.
    Idle,
    /// So many are needed and there.
    Enough,
    /// More are needed.
    MoreNeeded,
    /// Fewer were needed for a while.
    FewerNeeded,
    /// Fewer are needed; it is waited whether that lasts.
    Holding {
        /// So many are needed now.
        need: u32,
    },
    /// Another number is needed, but changing it now would cost more than it brings.
    NotWorthIt {
        /// So many are needed.
        need: u32,
    },
    /// A change is under way, and another now would only begin it anew.
    Changing {
        /// So many are needed.
        need: u32,
    },
    /// Nobody was busy yet, so what a worker can do is not known: it is felt for.
    Probing,
    /// Fewer would do, but no fewer are allowed.
    AtMin,
    /// More are needed than are allowed.
    AtMax {
        /// So many are needed.
        need: u32,
    },
    /// More are needed than there are partitions.
    AtPartitions {
        /// So many are needed.
        need: u32,
    },
    /// One partition has more to do than a worker can, and no other may help it.
    OnePartition,
    /// More workers did not bring more.
    Saturated {
        /// So many would be needed if they did.
        need: u32,
        /// How long until it is tried again.
        retry_in: Duration,
    },
    /// More workers did not bring more the last time; it is tried whether that has changed.
    TryingAgain {
        /// So many would be needed.
        need: u32,
    },
    /// A deadline comes up: a window closes, a timer fires, a retry is due.
    Deadline,
    /// There is no partition to read.
    NoPartitions,
    /// A person fixed the number.
    Fixed {
        /// For so much longer.
        left: Duration,
    },
}

impl Reason {
    /// One word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Enough => "enough",
            Self::MoreNeeded => "moreNeeded",
            Self::FewerNeeded => "fewerNeeded",
            Self::Holding { .. } => "holding",
            Self::NotWorthIt { .. } => "notWorthIt",
            Self::Changing { .. } => "changing",
            Self::Probing => "probing",
            Self::AtMin => "atMin",
            Self::AtMax { .. } => "atMax",
            Self::AtPartitions { .. } => "atPartitions",
            Self::OnePartition => "onePartition",
            Self::Saturated { .. } => "saturated",
            Self::TryingAgain { .. } => "tryingAgain",
            Self::Deadline => "deadline",
            Self::NoPartitions => "noPartitions",
            Self::Fixed { .. } => "fixed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("there is nothing to do"),
            Self::Enough => f.write_str("as many as are needed, give or take a tenth"),
            Self::MoreNeeded => f.write_str("more are needed"),
            Self::FewerNeeded => f.write_str("fewer were needed for a while"),
            Self::Holding { need } => write!(f, "{need} would do, if that lasts"),
            Self::NotWorthIt { need } => {
                write!(f, "{need} would be right, but the change would cost more than it brings")
            }
            Self::Changing { need } => write!(f, "{need} are needed; the last change is still under way"),
            Self::Probing => f.write_str("what a worker can do is not known yet: none was busy"),
            Self::AtMin => f.write_str("no fewer than scale.min"),
            Self::AtMax { need } => write!(f, "no more than scale.max, though {need} are needed"),
            Self::AtPartitions { need } => {
                write!(f, "no more than there are partitions, though {need} are needed")
            }
            Self::OnePartition => {
                f.write_str("one partition has more to do than its worker can; more workers cannot help it")
            }
            Self::Saturated { need, retry_in } => write!(
                f,
                "{need} would be needed, but more workers did not finish more: something behind them is the limit; \
                 tried again in {}s",
                retry_in.as_secs()
            ),
            Self::TryingAgain { need } => write!(
                f,
                "{need} would be needed; more workers did not finish more the last time, which is tried again"
            ),
            Self::Deadline => f.write_str("a deadline comes up"),
            Self::NoPartitions => f.write_str("there is no partition to read"),
            Self::Fixed { left } => {
                write!(f, "fixed by `tidemill scale` for another {}s", left.as_secs())
            }
        }
    }
}
