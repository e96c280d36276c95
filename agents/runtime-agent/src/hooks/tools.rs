//! Which processes of a tree are tools, whose loads do not count: installers, compilers, linters, and what these start.
//! It must never take an application for a tool for want of room: what finds none counts as an application.

use std::collections::HashSet;

use super::report::Report;
use crate::sweep::{self, Reader, Role};

/// Processes of tools that are remembered, and as many of what only starts others.
const PROCESSES_MAX: usize = 16_384;

/// The tools of one tree.
#[derive(Debug, Default)]
pub(super) struct Tools {
    tools: HashSet<u32>,
    /// Package managers that start what they run in processes of their own, and interpreters that load nothing.
    others: HashSet<u32>,
}

impl Tools {
    /// A program starts in a process (`AuditStarted`); gives the tool that it is. `parent` knows that of a process.
    pub fn started(
        &mut self,
        report: &Report,
        arguments: &[String],
        parent: impl Fn(u32) -> Option<u32>,
    ) -> Option<(&'static str, Role)> {
        self.tools.remove(&report.pid);
        self.others.remove(&report.pid);
        // Without its words a tool that can run an application is not known to install.
        let installs = !arguments.is_empty() && sweep::judge(&report.path, arguments) == Reader::Installer;
        if installs {
            insert(&mut self.tools, report.pid);
        } else {
            // What has ended by now is not known to be a tool's: npm's own scripts tell it by themselves.
            self.follow(report.pid, parent);
        }
        if self.is_tool(report.pid) {
            return sweep::role_of(&report.path, arguments, Reader::Installer);
        }
        if !sweep::is_application(&report.path, arguments) {
            insert(&mut self.others, report.pid);
        }
        None
    }

    /// What a tool starts or forks is a tool.
    pub fn follow(&mut self, pid: u32, parent: impl Fn(u32) -> Option<u32>) {
        if parent(pid).is_some_and(|parent| self.tools.contains(&parent)) {
            insert(&mut self.tools, pid);
        }
    }

    /// Whether what this process loads is no use.
    pub fn is_tool(&self, pid: u32) -> bool {
        self.tools.contains(&pid)
    }

    /// Whether what this process loads is an application's.
    pub fn is_application(&self, pid: u32) -> bool {
        !self.is_tool(pid) && !self.others.contains(&pid)
    }
}

fn insert(processes: &mut HashSet<u32>, pid: u32) {
    if processes.len() < PROCESSES_MAX {
        processes.insert(pid);
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
        ] {
            assert_eq!(start(pid, program, line), expected, "{pid} {line}");
        }
        tools.follow(13, parent);
        tools.follow(21, parent);
        assert_eq!((tools.is_tool(13), tools.is_tool(21)), (true, false));
    }
}
