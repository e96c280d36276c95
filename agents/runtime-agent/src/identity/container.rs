//! Container ids in the names of cgroups, as runtimes choose them.
//! It must never take a session scope or a service for a container.

/// The container whose cgroup is `name` below `parent`: Docker, containerd, CRI-O and Podman by both cgroup drivers.
pub fn container_id(name: &str, parent: &str) -> Option<String> {
    // Podman puts the payload one level below the container's own cgroup.
    if name == "container" {
        return from_name(parent);
    }
    from_name(name)
}

/// The container in a cgroup path: the innermost component that names one.
pub fn container_id_of_path(path: &str) -> Option<String> {
    path.rsplit('/').find_map(from_name)
}

fn from_name(name: &str) -> Option<String> {
    const PREFIXES: [&str; 5] = ["docker-", "cri-containerd-", "crio-", "libpod-", "nerdctl-"];
    let bare = name.strip_suffix(".scope").unwrap_or(name);
    // containerd's systemd driver: slice:prefix:id.
    let bare = bare.rsplit(':').next().unwrap_or(bare);
    let bare = PREFIXES.iter().find_map(|prefix| bare.strip_prefix(prefix)).unwrap_or(bare);
    let is_id =
        bare.len() == 64 && bare.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    is_id.then(|| bare.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f2a8c61d3e95b70a1b2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef0";

    #[test]
    fn finds_container_ids() {
        let cases = [
            (ID.to_owned(), "docker", true),
            (format!("docker-{ID}.scope"), "system.slice", true),
            (format!("cri-containerd-{ID}.scope"), "kubepods-pod1.slice", true),
            (format!("crio-{ID}.scope"), "kubepods.slice", true),
            (format!("libpod-{ID}.scope"), "machine.slice", true),
            ("container".to_owned(), &format!("libpod-{ID}.scope"), true),
            (format!("kubepods-pod1.slice:cri-containerd:{ID}"), "system.slice", true),
            ("session-1.scope".to_owned(), "user-0.slice", false),
            ("nginx.service".to_owned(), "system.slice", false),
            (ID[..63].to_owned(), "docker", false),
            (ID.to_uppercase(), "docker", false),
            (String::new(), "", false),
        ];
        for (name, parent, found) in cases {
            assert_eq!(container_id(&name, parent).as_deref(), found.then_some(ID), "{name} below {parent}");
        }
    }

    #[test]
    fn finds_the_innermost() {
        let other = ID.replace('4', "5");
        assert_eq!(container_id_of_path(&format!("/docker/{other}/docker/{ID}")).as_deref(), Some(ID));
        assert_eq!(container_id_of_path(&format!("/docker/{ID}/init.scope")).as_deref(), Some(ID));
        assert_eq!(container_id_of_path("/user.slice"), None);
    }
}
