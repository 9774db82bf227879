//! Output of replicas: newline-delimited JSON, one frame a line, as it comes.

use serde::{Deserialize, Serialize};

/// Which output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct LogsQuery {
    /// So many lines from the end, of each replica; all that the engine keeps if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Not older than this, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// Whether to go on with what comes.
    #[serde(default)]
    pub follow: bool,
    /// Whether each line has its time.
    #[serde(default)]
    pub timestamps: bool,
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum LogFrame {
    /// A line of output.
    Line {
        /// Of which replica.
        replica: String,
        /// Where it was written.
        output: LogOutput,
        /// When, as the engine has it (RFC 3339); only if asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time: Option<String>,
        /// The line without its end; bytes that are no UTF-8 are replaced by U+FFFD, and very long lines are cut.
        text: String,
    },
    /// There is no more of this replica.
    End {
        /// Of which replica.
        replica: String,
        /// If it ended too early: why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The hub is still there; sent when nothing else was for a while.
    Beat,
    /// One that this reader does not know.
    #[serde(other)]
    Other,
}

/// Where output was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum LogOutput {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_flat_object() {
        let frame = LogFrame::Line {
            replica: "shop/web.1".into(),
            output: LogOutput::Stdout,
            time: None,
            text: "hello".into(),
        };
        let json = r#"{"frame":"line","replica":"shop/web.1","output":"stdout","text":"hello"}"#;
        assert_eq!(serde_json::to_string(&frame).unwrap(), json);
        assert_eq!(serde_json::from_str::<LogFrame>(json).unwrap(), frame);
    }

    #[test]
    fn a_frame_from_a_newer_hub_is_read() {
        assert_eq!(serde_json::from_str::<LogFrame>(r#"{"frame":"smell","strength":9}"#).unwrap(), LogFrame::Other);
    }
}
