/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 * What watched processes have mapped and open, by looking at them. */
#pragma once

static __always_inline int report_executable(struct task_struct *task, struct tracked *t, __u32 tgid, struct file *file)
{
	__u32 slot = SCRATCH_RESYNC_EXECUTABLE;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &slot);

	if (!s || !t)
		return 0;
	s->argument_bytes = 0;
	report(task, t, tgid, file, EVENT_EXEC, 0, t->exec_id, EVENT_RESYNC, SCRATCH_RESYNC_EXECUTABLE);
	return 0;
}

SEC("iter/task_vma")
int resync_mappings(struct bpf_iter__task_vma *ctx)
{
	struct task_struct *task = ctx->task;
	struct vm_area_struct *vma = ctx->vma;
	struct tracked *t;
	struct file *file;
	__u32 tgid, kind;

	if (!task || !vma)
		return 0;
	tgid = task->tgid;
	if (task->pid != tgid)
		return 0;
	t = bpf_map_lookup_elem(&tracked, &tgid);
	file = vma->vm_file;
	if (!t || !file)
		return 0;
	kind = (vma->vm_flags & VM_EXEC) ? EVENT_MAP : EVENT_OPEN;
	if (kind == EVENT_OPEN && is_ignored(t->reader))
		return 0;
	if (kind == EVENT_MAP && file == task->mm->exe_file)
		report_executable(task, t, tgid, file);
	else
		report(task, t, tgid, file, kind, t->reader, 0, EVENT_RESYNC, SCRATCH_RESYNC);
	return 0;
}

SEC("iter/task_file")
int resync_files(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct tracked *t;
	__u32 tgid;

	if (!task || !file)
		return 0;
	tgid = task->tgid;
	if (task->pid != tgid)
		return 0;
	t = bpf_map_lookup_elem(&tracked, &tgid);
	if (!t || is_ignored(t->reader))
		return 0;
	report(task, t, tgid, file, EVENT_OPEN, t->reader, 0, EVENT_RESYNC, SCRATCH_RESYNC_FILES);
	return 0;
}
