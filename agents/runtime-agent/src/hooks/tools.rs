//! Which processes of a tree are tools, whose loads do not count: installers, compilers, linters, and what these start.
//! It must never take an application for a tool for want of room: what finds none counts as an application.

use std::collections::{HashMap, HashSet};

use super::report::Report;
use crate::sweep::{self, Reader, Role};

/// Processes of tools that are remembered, and as many of what only starts others.
const PROCESSES_MAX: usize = 16_384;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    /// What it executes is a tool.
    Installer,
    /// What it executes is judged by itself.
    Starter,
}

/// The tools of one tree.
#[derive(Debug, Default)]
pub(super) struct Tools {
    tools: HashMap<u32, Tool>,
    /// Package managers that start what they run in processes of their own, and interpreters that load nothing.
    others: HashSet<u32>,
}

impl Tools {
    /// A program starts in a process (`AuditStarted`, of the program that a dynamic linker runs); gives the tool that it is. `parent` knows that of a process.
    pub fn started(
        &mut self,
        report: &Report,
        arguments: &[String],
        parent: impl Fn(u32) -> Option<u32>,
    ) -> Option<(&'static str, Role)> {
        self.tools.remove(&report.pid);
        self.others.remove(&report.pid);
        // What has ended by now is not known to be a tool's: npm's own scripts tell it by themselves.
        let below = parent(report.pid).and_then(|parent| self.tools.get(&parent).copied());
        // Without its words a tool that can run an application is not known to install.
        let judged = match below {
            Some(Tool::Installer) => Reader::Installer,
            _ if arguments.is_empty() => Reader::Plain,
            Some(Tool::Starter) => sweep::judge_below_tool(&report.path, arguments),
            None => sweep::judge(&report.path, arguments),
        };
        if judged == Reader::Installer {
            insert(&mut self.tools, report.pid, Tool::Installer);
        } else if sweep::may_start_application(&report.path, judged)
            || below.is_some() && judged == Reader::Ignored
        {
            insert(&mut self.tools, report.pid, Tool::Starter);
        }
        if self.is_tool(report.pid) {
            return sweep::role_of(&report.path, arguments, Reader::Installer);
        }
        if self.others.len() < PROCESSES_MAX && !sweep::is_application(&report.path, arguments) {
            self.others.insert(report.pid);
        }
        None
    }

    /// What a tool forks is a tool.
    pub fn follow(&mut self, pid: u32, parent: impl Fn(u32) -> Option<u32>) {
        if let Some(tool) = parent(pid).and_then(|parent| self.tools.get(&parent).copied()) {
            insert(&mut self.tools, pid, tool);
        }
    }

    /// Whether what this process loads is no use.
    pub fn is_tool(&self, pid: u32) -> bool {
        self.tools.contains_key(&pid)
    }

    /// Whether what this process loads is an application's.
    pub fn is_application(&self, pid: u32) -> bool {
        !self.is_tool(pid) && !self.others.contains(&pid)
    }
}

fn insert(processes: &mut HashMap<u32, Tool>, pid: u32, tool: Tool) {
    if processes.len() < PROCESSES_MAX {
        processes.insert(pid, tool);
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::ReportKind;
    use super::*;

    #[test]
    fn tools_and_what_they_start() {
        let mut tools = Tools::default();
        // The number of a parent is the one below.
        let parent = |pid: u32| pid.checked_sub(1);
        let mut start = |pid, program: &str, line: &str| {
            let arguments: Vec<String> =
                line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
            let report = Report {
                kind: ReportKind::AuditStarted,
                pid,
                lost: 0,
                truncated: false,
                name: Vec::new(),
                path: program.into(),
            };
            let role = tools.started(&report, &arguments, parent);
            (role.map(|(ecosystem, _)| ecosystem), tools.is_tool(pid), tools.is_application(pid))
        };
        let (tool, application, neither) = (true, true, (None, false, false));
        for (pid, program, line, expected) in [
            (10, "/usr/bin/npm", "npm ci", (Some("npm"), tool, !application)),
            (11, "/usr/bin/sh", "sh -c x", (None, tool, !application)),
            (12, "/usr/bin/node", "node install.js", (Some("npm"), tool, !application)),
            (20, "/usr/bin/node", "node server.js", (None, !tool, application)),
            (30, "/usr/bin/node", "node /usr/bin/npm start", neither),
            (31, "/usr/bin/node", "node server.js", (None, !tool, application)),
            // Another program in the same process.
            (30, "/usr/bin/node", "node server.js", (None, !tool, application)),
            (40, "/usr/bin/npm", "", (None, !tool, application)),
            (50, "/usr/bin/node", "node /app/node_modules/.bin/tsup", (Some("npm"), tool, !application)),
            (51, "/usr/bin/node", "node /app/node_modules/x/worker.js", (Some("npm"), tool, !application)),
            (52, "/usr/bin/node", "node a.js", (None, !tool, application)),
            (50, "/usr/bin/node", "node /app/node_modules/.bin/tsup", (Some("npm"), tool, !application)),
            (51, "/usr/bin/sh", "sh -c x", (None, !tool, application)),
        ] {
            assert_eq!(start(pid, program, line), expected, "{pid} {line}");
        }
        tools.follow(13, parent);
        tools.follow(21, parent);
        assert_eq!((tools.is_tool(13), tools.is_tool(21)), (true, false));
    }
}
