//! Events of the kernel and reports of hooks as uses and risks of workloads.
//! It must never free a place in the ring buffer; that is decided when things are handed out.

use plimsoll_kit::clock::now_ms;
use plimsoll_schemas::events::PackageOwnership;
use plimsoll_schemas::words::{Rung, mount, probe, usage_kind};

use super::{DRAIN_MAX_RECORDS, Engine, IMAGES_MAX, Image, TREE_ID, workloads::cut};
use crate::ebpf::Kernel;
use crate::ebpf::event::{FileAction, FileEvent, KernelEvent};
use crate::ebpf::wire::workload_flag;
use crate::hooks::language::Language;
use crate::hooks::php_programs::keeps_php_scripts;
use crate::observe::{observe, reader_of};
use crate::rules::{self, ExecFacts};
use crate::sweep::{self, Reader};
use crate::workload::{ArtifactView, ExecContext};
use crate::{alerts, java, procfs, unmeasurable};

impl Engine {
    /// Reads what is there; `true` if there is more.
    pub(super) fn drain(&mut self) -> bool {
        for (tree, hooks) in &mut self.hooks {
            let Some(workload) = self.workloads.get_mut(tree) else { continue };
            hooks.observe(workload, self.stamper.boot_id());
            hooks.take_unseen().into_iter().for_each(|start| self.java.started_unseen(*tree, start));
            hooks.take_jvms().into_iter().for_each(|pid| self.java.found(*tree, pid));
            (0..hooks.take_jvms_elsewhere()).for_each(|_| self.java.out_of_reach(*tree));
        }
        self.java.observe(&mut self.workloads, self.stamper.boot_id());
        let Some(kernel) = self.kernel.clone() else {
            let now = now_ms();
            self.workloads.values_mut().for_each(|workload| workload.observed_until(now));
            return false;
        };
        // The way out is full: what is not read stays safe in the ring buffer.
        if self.batches.is_full() && !self.finishing {
            return false;
        }
        let started_ms = now_ms();
        let mut records = 0;
        let mut begin = self.read_position;
        let end = kernel.drain(|event, position| {
            match event {
                Some(KernelEvent::File(event)) => self.on_file(&kernel, *event, begin),
                Some(KernelEvent::Empty { workload, .. }) => {
                    if let Some(workload) = self.workloads.get_mut(&workload) {
                        workload.changed = true;
                    }
                }
                None => tracing::error!("a record of the ring buffer is not readable"),
            }
            begin = position;
            records += 1;
            records < DRAIN_MAX_RECORDS
        });
        self.read_position = end.max(begin);
        let more = records >= DRAIN_MAX_RECORDS;
        if !more {
            self.workloads.values_mut().for_each(|workload| workload.observed_until(started_ms));
        }
        more
    }

    pub(super) fn on_file(&mut self, kernel: &Kernel, event: FileEvent, position: u64) {
        if !self.workloads.contains_key(&event.workload) {
            let Some(entry) = kernel.workload(event.workload) else { return };
            if entry.flags & workload_flag::IGNORED != 0 || !self.add_container(event.workload, &entry) {
                return;
            }
        }
        if event.action == FileAction::Map && java::is_jvm(&event.path) {
            self.java.found(event.workload, event.pid);
        }
        if java::is_agent(&event.path) {
            return;
        }
        let time_ms = self.boot_time_ms + i64::try_from(event.time_ns / 1_000_000).unwrap_or(0);
        let judged = if event.action == FileAction::Exec {
            self.on_exec(kernel, &event, time_ms)
        } else {
            self.images.get(&event.exec_id).map(|image| image.reader)
        };
        self.count_process(&event, judged);
        let reader = reader_of(&event, judged);
        let exec =
            (event.action == FileAction::Exec && !event.resync).then(|| self.exec_context(&event, time_ms));
        if let Some(exec) = exec.as_deref() {
            self.judge_shell(&event, exec);
        }
        let process = self.images.get(&event.exec_id).map_or_else(
            || event.comm.clone(),
            |image| String::from_utf8_lossy(&image.executable).into_owned(),
        );
        let of_tool = self.images.get(&event.exec_id).is_some_and(|image| image.is_tool);
        let Some(workload) = self.workloads.get_mut(&event.workload) else { return };
        if workload.base.stopped_at_ms != 0 && event.workload & TREE_ID == 0 {
            // It had no process for a while, and has one again.
            workload.base.stopped_at_ms = 0;
            workload.empty_polls = 0;
            workload.changed = true;
        }
        if event.truncated {
            let boot = self.stamper.boot_id().to_owned();
            *workload.losses.entry((probe::EBPF_FILES.to_owned(), boot)).or_default() += 1;
            workload.changed = true;
        }
        let probe = if event.resync { probe::RESYNC } else { probe::EBPF_FILES };
        if event.action == FileAction::Exec
            && let Some(image) = self.images.get(&event.exec_id)
            && let Some(found) = unmeasurable::of_command(&image.executable, &image.arguments)
        {
            workload.set_unmeasurable(found);
        }
        if event.action == FileAction::Exec {
            let called = event.arguments.first().map_or("", String::as_str);
            for found in unmeasurable::of_runner(&event.path, event.outside, called) {
                workload.set_unmeasurable(found);
            }
        }
        let keeps_php = match event.action {
            FileAction::Exec => keeps_php_scripts(&event.path),
            // A web server's module.
            FileAction::Map => Language::of_library(&event.path) == Some(Language::Php),
            FileAction::Open => false,
        };
        if reader == Reader::Plain && !event.resync {
            match event.action {
                FileAction::Map if Language::of_library(&event.path) == Some(Language::Python) => {
                    workload.set_carries_python(&process);
                }
                FileAction::Open
                    if event.carries.has(Language::Python)
                        && unmeasurable::python::is_first_module(&event.path) =>
                {
                    workload.set_started_python(&process);
                }
                _ => {}
            }
        }
        // What ran from the first exec on is looked at again, too: after losses and once per epoch.
        if event.resync && keeps_php && !workload.is_watched_from_first_exec(probe::EBPF_FILES) {
            workload.set_unmeasurable(unmeasurable::php_before_the_watch(&process));
        }
        // Archives of frozen programs, which are read as files.
        let interprets_python =
            reader.language() == Some(Language::Python) || event.carries.has(Language::Python);
        if event.action == FileAction::Open
            && interprets_python
            && let Some(found) = unmeasurable::python::of_path(&event.path)
        {
            workload.set_unmeasurable(found);
        }
        match observe(&event, reader) {
            Some(mut observation) => {
                if event.workload & TREE_ID != 0 {
                    // Volumes hide an image's files; a host and a component's directory are what lies there.
                    observation.mount = mount::ROOT;
                    observation.origin.other_mounts = self.mount_ns.is_some_and(|own| own != event.mount_ns);
                }
                observation.origin.of_tool = of_tool;
                let is_module = observation.kind == usage_kind::MODULE && observation.rung >= Rung::Loaded;
                if observation.mount == mount::OTHER
                    && is_module
                    && let Some(found) = unmeasurable::of_volume(&observation.path)
                {
                    workload.set_unmeasurable(found);
                }
                if is_module {
                    workload.remember_module(&observation, event.exec_id, &process);
                }
                workload.add(observation, probe, process, time_ms, position, exec);
            }
            None if event.outside => {
                let Some(exec) = exec else { return };
                let artifact = workload.artifacts.first().cloned();
                self.judge_program(event.workload, artifact, &event.path, &exec, mount::OTHER, None);
            }
            None => {}
        }
    }

    pub(super) fn on_exec(&mut self, kernel: &Kernel, event: &FileEvent, time_ms: i64) -> Option<Reader> {
        if event.resync {
            return self.images.get(&event.exec_id).map(|image| image.reader);
        }
        let reader = match self.images.get(&event.parent_exec_id) {
            Some(parent) if parent.reader == Reader::Installer => Reader::Installer,
            Some(parent) if sweep::may_start_application(&parent.executable, parent.reader) => {
                sweep::judge_below_tool(&event.path, &event.arguments)
            }
            _ => sweep::judge(&event.path, &event.arguments),
        };
        if event.command_hash != 0 {
            kernel.set_verdict(event.command_hash, reader.class());
        }
        // What a dynamic linker was called to run is the program.
        let (program, arguments) =
            sweep::linked(&event.path, &event.arguments).unwrap_or((&event.path, &event.arguments));
        let program = program.strip_prefix(b"/").unwrap_or(program);
        self.remember(event.exec_id, Image::new(program.to_vec(), arguments.to_vec(), reader));
        if let Some((ecosystem, role)) = sweep::role_of(program, arguments, reader)
            && let Some(workload) = self.workloads.get_mut(&event.workload)
        {
            workload.note_role(ecosystem, role);
        }
        if let Some(workload) = self.workloads.get_mut(&event.workload)
            && workload.base.command.is_empty()
        {
            workload.base.command = event.arguments.iter().take(64).map(|part| cut(part, 1_024)).collect();
            workload.base.started_at_ms = workload.base.started_at_ms.min(time_ms);
            workload.changed = true;
        }
        if !self.roots.contains_key(&event.workload) && event.workload & TREE_ID == 0 {
            self.open_root(event.workload, event.pid);
        }
        Some(reader)
    }

    pub(super) fn remember(&mut self, exec_id: u64, image: Image) {
        if self.images.insert(exec_id, image).is_none() {
            self.image_order.push_back(exec_id);
        }
        while self.image_order.len() > IMAGES_MAX {
            if let Some(oldest) = self.image_order.pop_front() {
                self.images.remove(&oldest);
            }
        }
    }

    pub(super) fn exec_context(&self, event: &FileEvent, time_ms: i64) -> Box<ExecContext> {
        let (parent_executable, parent_arguments) = match self.images.get(&event.parent_exec_id) {
            Some(image) => (image.executable.clone(), image.arguments.clone()),
            // Watched, but by an agent before this one.
            None if event.parent_exec_id != 0 => (
                procfs::executable(event.parent_pid).unwrap_or_default(),
                procfs::command_line(event.parent_pid),
            ),
            None => (Vec::new(), Vec::new()),
        };
        Box::new(ExecContext {
            pid: event.pid,
            parent_pid: event.parent_pid,
            arguments: event.arguments.clone(),
            parent_executable,
            parent_arguments,
            user_id: procfs::user_id(event.pid).unwrap_or(0),
            started_at_ms: time_ms,
            outside: event.outside,
        })
    }

    pub(super) fn judge_shell(&mut self, event: &FileEvent, exec: &ExecContext) {
        if !rules::is_shell(&event.path, &event.arguments) || exec.parent_executable.is_empty() {
            return;
        }
        let facts = ExecFacts {
            executable: &event.path,
            arguments: &exec.arguments,
            parent_executable: &exec.parent_executable,
            parent_arguments: &exec.parent_arguments,
            parent_listens: procfs::listens(event.parent_pid),
            ..ExecFacts::default()
        };
        if let Some(risk) = rules::shell_from_server(&facts) {
            self.raise(event.workload, None, &event.path, exec, risk, "");
        }
    }

    pub(super) fn judge_program(
        &mut self,
        workload: u64,
        artifact: Option<ArtifactView>,
        path: &[u8],
        exec: &ExecContext,
        mount: &str,
        ownership: Option<&PackageOwnership>,
    ) {
        let from_image = artifact.as_ref().is_some_and(|artifact| artifact.key.starts_with("image/"))
            || artifact.is_none() && workload & TREE_ID == 0;
        let facts = ExecFacts {
            executable: path,
            arguments: &exec.arguments,
            outside: exec.outside,
            other_mount: mount == mount::OTHER,
            from_image,
            drift: ownership.map_or("", |ownership| ownership.drift.as_str()),
            parent_executable: &exec.parent_executable,
            parent_arguments: &exec.parent_arguments,
            parent_listens: false,
        };
        if let Some(risk) = rules::program_not_in_image(&facts) {
            let identity = ownership.map_or("", |ownership| ownership.file_identity.as_str());
            self.raise(workload, artifact, path, exec, risk, identity);
        }
    }

    pub(super) fn raise(
        &mut self,
        workload: u64,
        artifact: Option<ArtifactView>,
        path: &[u8],
        exec: &ExecContext,
        risk: rules::Risk,
        file_identity: &str,
    ) {
        let Some(known) = self.workloads.get_mut(&workload) else { return };
        let alert = alerts::build(known, artifact, path, exec, risk, file_identity);
        if self.alerts.is_new(&alert) {
            known.alerts.push(alert);
        }
    }
}
