//! Framed messages with open descriptors over Unix stream sockets (SCM_RIGHTS, unix(7)), for agent and resolver.
//! Never reads a frame above the bound, and never leaks a descriptor that it received.
//!
//! A frame is a 4-byte big-endian length and that many bytes; its descriptors travel with its first byte.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Longest frame, in bytes, its length not counted.
pub const FRAME_MAX_BYTES: usize = plimsoll_schemas::resolver_protocol::FRAME_MAX_BYTES as usize;
/// Most descriptors of one frame.
pub const FRAME_MAX_DESCRIPTORS: usize = 16;
/// Room for the control message of `FRAME_MAX_DESCRIPTORS`.
const CONTROL_BYTES: usize = rustix::cmsg_space!(ScmRights(FRAME_MAX_DESCRIPTORS));

/// A channel that cannot go on, or a frame that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The system's fault, or the other side is gone.
    #[error("unix socket: {0}")]
    Io(#[from] io::Error),
    /// A frame is too long; the channel cannot be used any more.
    #[error(
        "frame of {0} bytes is longer than {FRAME_MAX_BYTES}; the other side is of another version or broken"
    )]
    FrameTooLong(usize),
    /// Too many descriptors for one frame.
    #[error("{0} descriptors are more than the {FRAME_MAX_DESCRIPTORS} that one frame carries")]
    TooManyDescriptors(usize),
    /// Nothing came in time; the channel can be used on when nothing of a frame had come.
    #[error("no frame within {0:?}")]
    TimedOut(Duration),
    /// The socket cannot be opened.
    #[error("cannot open unix socket {}: {source}; check that its directory exists and may be written, and that the other side runs", .path.display())]
    Open {
        /// The socket.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// A received frame.
#[derive(Debug)]
pub struct Frame {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its descriptors, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// One side of a connection.
#[derive(Debug)]
pub struct UnixChannel {
    stream: UnixStream,
}

impl From<UnixStream> for UnixChannel {
    fn from(stream: UnixStream) -> Self {
        Self { stream }
    }
}

impl UnixChannel {
    /// Connects to a server.
    ///
    /// # Errors
    /// [`ChannelError::Open`].
    pub fn connect(path: &Path) -> Result<Self, ChannelError> {
        let stream = UnixStream::connect(path)
            .map_err(|source| ChannelError::Open { path: path.to_owned(), source })?;
        Ok(Self { stream })
    }

    /// Two connected sides, for a child process and for tests.
    ///
    /// # Errors
    /// The system's.
    pub fn pair() -> Result<(Self, Self), ChannelError> {
        let (one, two) = UnixStream::pair()?;
        Ok((one.into(), two.into()))
    }

    /// The same connection for a second thread: one sends while the other receives.
    ///
    /// # Errors
    /// The system's.
    pub fn try_clone(&self) -> Result<Self, ChannelError> {
        Ok(Self { stream: self.stream.try_clone()? })
    }

    /// Bounds each `send`; `None`: it may wait for ever.
    ///
    /// # Errors
    /// The system's.
    pub fn set_send_timeout(&self, timeout: Option<Duration>) -> Result<(), ChannelError> {
        Ok(self.stream.set_write_timeout(timeout)?)
    }

    /// User id of the process on the other side, as the kernel saw it at connect.
    ///
    /// # Errors
    /// The system's.
    pub fn peer_user_id(&self) -> Result<u32, ChannelError> {
        let credentials = rustix::net::sockopt::socket_peercred(&self.stream).map_err(io::Error::from)?;
        Ok(credentials.uid.as_raw())
    }

    /// Sends one frame with copies of `descriptors`.
    ///
    /// # Errors
    /// A bound is broken, or the other side is gone.
    pub fn send(&mut self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        if bytes.len() > FRAME_MAX_BYTES {
            return Err(ChannelError::FrameTooLong(bytes.len()));
        }
        if descriptors.len() > FRAME_MAX_DESCRIPTORS {
            return Err(ChannelError::TooManyDescriptors(descriptors.len()));
        }
        let header = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let parts = [IoSlice::new(&header), IoSlice::new(bytes)];
        let sent = rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(&self.stream, &parts, &mut control, SendFlags::NOSIGNAL)
        })
        .map_err(io::Error::from)?;
        if sent < header.len() {
            self.stream.write_all(&header[sent..])?;
        }
        self.stream.write_all(&bytes[sent.saturating_sub(header.len()).min(bytes.len())..])?;
        Ok(())
    }

    /// Waits at most `timeout` for something to read, also the other side's end. Whoever waits for long waits here: a
    /// `receive` that is out of time may have taken half a frame.
    ///
    /// # Errors
    /// The system's.
    pub fn wait(&self, timeout: Duration) -> Result<bool, ChannelError> {
        Ok(wait_readable(self.stream.as_fd(), Instant::now() + timeout)?)
    }

    /// Waits at most `timeout` for the next frame; `None`: the other side closed after its last frame.
    ///
    /// # Errors
    /// [`ChannelError::TimedOut`], or the channel cannot go on.
    pub fn receive(&mut self, timeout: Duration) -> Result<Option<Frame>, ChannelError> {
        let deadline = Instant::now() + timeout;
        let mut header = [0; 4];
        let mut descriptors = Vec::new();
        let mut filled = 0;
        while filled < header.len() {
            let got = self.receive_some(&mut header[filled..], &mut descriptors, deadline, timeout)?;
            if got == 0 {
                if filled == 0 {
                    return Ok(None);
                }
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            filled += got;
        }
        let length = u32::from_be_bytes(header) as usize;
        if length > FRAME_MAX_BYTES {
            return Err(ChannelError::FrameTooLong(length));
        }
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            self.wait_readable(deadline, timeout)?;
            match self.stream.read(&mut bytes[filled..]) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(got) => filled += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(Frame { bytes, descriptors }))
    }

    fn receive_some(
        &self,
        buffer: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<usize, ChannelError> {
        self.wait_readable(deadline, timeout)?;
        let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = rustix::io::retry_on_intr(|| {
            let mut parts = [IoSliceMut::new(buffer)];
            rustix::net::recvmsg(&self.stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        })
        .map_err(io::Error::from)?;
        for item in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = item {
                descriptors.extend(received);
            }
        }
        if message.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > FRAME_MAX_DESCRIPTORS {
            return Err(ChannelError::TooManyDescriptors(descriptors.len()));
        }
        Ok(message.bytes)
    }

    fn wait_readable(&self, deadline: Instant, timeout: Duration) -> Result<(), ChannelError> {
        if wait_readable(self.stream.as_fd(), deadline)? {
            Ok(())
        } else {
            Err(ChannelError::TimedOut(timeout))
        }
    }
}

/// Whether `descriptor` became readable before the deadline.
fn wait_readable(descriptor: BorrowedFd<'_>, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut wanted = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
        match rustix::event::poll(&mut wanted, Some(&limit)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A listening socket; its file is removed when dropped.
#[derive(Debug)]
pub struct UnixServer {
    listener: UnixListener,
    path: PathBuf,
}

impl UnixServer {
    /// Listens at `path` with the permission bits `mode` (0o600). A file left by a process that is gone is replaced; a
    /// socket that answers is not.
    ///
    /// # Errors
    /// [`ChannelError::Open`].
    pub fn bind(path: &Path, mode: u32) -> Result<Self, ChannelError> {
        let open = |source| ChannelError::Open { path: path.to_owned(), source };
        if path.exists() {
            if UnixStream::connect(path).is_ok() {
                return Err(open(io::Error::from(io::ErrorKind::AddrInUse)));
            }
            std::fs::remove_file(path).map_err(open)?;
        }
        let listener = UnixListener::bind(path).map_err(open)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(open)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Waits at most `timeout` for a connection.
    ///
    /// # Errors
    /// The system's.
    pub fn accept(&self, timeout: Duration) -> Result<Option<UnixChannel>, ChannelError> {
        if !wait_readable(self.listener.as_fd(), Instant::now() + timeout)? {
            return Ok(None);
        }
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                Ok(Some(stream.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for UnixServer {
    fn drop(&mut self) {
        // Nothing can be done about a file that somebody else removed.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn frames_keep_bytes_descriptors_and_borders() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("f"), "content").unwrap();
        let (mut one, mut two) = UnixChannel::pair().unwrap();
        let large = vec![7; FRAME_MAX_BYTES];
        let sender = std::thread::spawn({
            let large = large.clone();
            let file = std::fs::File::open(directory.path().join("f")).unwrap();
            move || {
                one.send(b"plain", &[]).unwrap();
                one.send(b"", &[file.as_fd(), file.as_fd()]).unwrap();
                one.send(&large, &[file.as_fd()]).unwrap();
            }
        });
        let frame = two.receive(SOON).unwrap().unwrap();
        assert_eq!((frame.bytes.as_slice(), frame.descriptors.len()), (&b"plain"[..], 0));
        let frame = two.receive(SOON).unwrap().unwrap();
        assert_eq!((frame.bytes.len(), frame.descriptors.len()), (0, 2));
        let mut frame = two.receive(SOON).unwrap().unwrap();
        assert_eq!(frame.bytes, large);
        let mut text = String::new();
        std::fs::File::from(frame.descriptors.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        sender.join().unwrap();
        assert!(two.receive(SOON).unwrap().is_none());
    }

    #[test]
    fn bounds_hold() {
        let (mut one, mut two) = UnixChannel::pair().unwrap();
        assert!(matches!(one.send(&vec![0; FRAME_MAX_BYTES + 1], &[]), Err(ChannelError::FrameTooLong(_))));
        let copy = one.stream.try_clone().unwrap();
        let many = vec![copy.as_fd(); FRAME_MAX_DESCRIPTORS + 1];
        assert!(matches!(one.send(b"", &many), Err(ChannelError::TooManyDescriptors(_))));
        drop(copy);
        assert!(matches!(two.receive(Duration::from_millis(1)), Err(ChannelError::TimedOut(_))));
        one.stream.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert!(matches!(two.receive(SOON), Err(ChannelError::FrameTooLong(_))));
        one.stream.write_all(&[0, 0]).unwrap();
        drop(one);
        assert!(matches!(two.receive(SOON), Err(ChannelError::Io(_))));
    }

    #[test]
    fn a_server_replaces_what_a_dead_one_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let server = UnixServer::bind(&path, 0o600).unwrap();
        assert!(matches!(UnixServer::bind(&path, 0o600), Err(ChannelError::Open { .. })));
        // The failed bind's probe is waiting in the queue, so take two.
        let mut client = UnixChannel::connect(&path).unwrap();
        assert!(server.accept(SOON).unwrap().is_some());
        let mut served = server.accept(SOON).unwrap().unwrap();
        assert!(server.accept(Duration::from_millis(1)).unwrap().is_none());
        client.send(b"hello", &[]).unwrap();
        assert_eq!(served.receive(SOON).unwrap().unwrap().bytes, b"hello");
        assert_eq!(served.peer_user_id().unwrap(), rustix::process::getuid().as_raw());
        drop(server);
        assert!(!path.exists());
    }
}
