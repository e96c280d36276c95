use plimsoll_runtime_agent::ebpf::*;
use plimsoll_runtime_agent::ebpf::wire::*;
fn main() {
    let mut k = Kernel::open(&EbpfConfig { watch_containers: true, epoch: std::time::Duration::from_secs(3600), pins: None }).unwrap();
    println!("missing {:?}", k.missing());
    k.attach().unwrap();
    let me = std::process::id();
    k.put_workload(1 << 63, &WorkloadEntry { flags: workload_flag::TREE | 1, processes: 1, ..Default::default() });
    k.track(me, &Tracked { workload: 1 << 63, ..Default::default() });
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut child = std::process::Command::new(&args[0]).args(&args[1..]).spawn().unwrap();
    child.wait().unwrap();
    if args[0].contains("sleep") { k.resync(); }
    let t = std::time::Instant::now();
    let mut n = 0;
    let pos = k.drain(|e, _| { n += 1; if n < 200 { match e { Some(event::KernelEvent::File(f)) => println!("{:?} {} pid={} ppid={} w={:x} r={:x} root={} out={} resync={} {:?} args={:?} x={:x} px={:x}", f.action, String::from_utf8_lossy(&f.path), f.pid, f.parent_pid, f.workload, f.reader, f.on_root_mount, f.outside, f.resync, f.comm, f.arguments, f.exec_id, f.parent_exec_id), e => println!("{e:?}") } } true });
    println!("{n} events, {pos} bytes, {:?}", t.elapsed());
    for (id, w) in k.workloads() { println!("{id:x} {} {} {:x} {} {}", w.processes, w.lost, w.flags, text(&w.cgroup_name), text(&w.cgroup_parent)); }
    println!("{:?}", k.live_workloads());
}
