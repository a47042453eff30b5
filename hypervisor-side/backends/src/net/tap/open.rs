//! Opens a TAP by name, by descriptor, or anew. An interface that did not exist before vanishes with its descriptor.

use super::{TapError, TapOptions, vnet};
use crate::sys::{InterfaceCall, InterfaceRequest, interface_call, set_tap_offloads};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use pvkit_abi::net::{MAX_MTU, MIN_MTU};
use std::fs::{File, OpenOptions};
use std::io;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;

/// What was opened.
pub(super) struct Opened {
    pub file: File,
    pub name: String,
    /// Whether the kernel knows how to segment UDP.
    pub cuts_udp: bool,
}

/// Opens what the options name. Nothing that exists is changed but the header's size and the offloads.
pub(super) fn open(options: TapOptions) -> Result<Opened, TapError> {
    let TapOptions { name, fd, mtu } = options;
    if !(MIN_MTU..=MAX_MTU).contains(&mtu) {
        return Err(TapError::BadMtu(mtu));
    }
    let (file, name) = match (fd, name) {
        (Some(fd), _) => adopt(fd)?,
        (None, name) => attach(name)?,
    };
    check_mtu(&name, mtu)?;
    set_non_blocking(&file).map_err(TapError::system("making the TAP non-blocking"))?;
    let mut size = InterfaceRequest::default();
    for (to, from) in size.name.iter_mut().zip((vnet::BYTES as libc::c_int).to_ne_bytes()) {
        *to = from;
    }
    interface_call(&file, InterfaceCall::SetHeaderBytes, &mut size)
        .map_err(TapError::system("setting the TAP's header size"))?;
    let udp = libc::TUN_F_CSUM | libc::TUN_F_USO4 | libc::TUN_F_USO6;
    let cuts_udp = set_tap_offloads(&file, udp).is_ok();
    // The guest has agreed to nothing yet.
    set_tap_offloads(&file, 0).map_err(TapError::system("turning the TAP's offloads off"))?;
    Ok(Opened { file, name, cuts_udp })
}

const FLAGS: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

fn attach(name: Option<String>) -> Result<(File, String), TapError> {
    if let Some(name) = &name {
        check_name(name)?;
        if mtu_of(name).is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV)) {
            return Err(TapError::Missing(name.clone()));
        }
    }
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").map_err(TapError::of_opening)?;
    let mut request = named(name.as_deref().unwrap_or("pvtap%d"));
    for (to, from) in request.value.iter_mut().zip((FLAGS as u16).to_ne_bytes()) {
        *to = from;
    }
    interface_call(&file, InterfaceCall::SetTap, &mut request)
        .map_err(|error| TapError::of_attaching(name.as_deref(), error))?;
    Ok((file, name_in(&request)))
}

/// A descriptor that someone else opened.
fn adopt(fd: OwnedFd) -> Result<(File, String), TapError> {
    let file = File::from(fd);
    let mut request = InterfaceRequest::default();
    interface_call(&file, InterfaceCall::GetTap, &mut request)
        .map_err(|_| TapError::NotATap("the open descriptor".to_owned()))?;
    let name = name_in(&request);
    let [low, high, ..] = request.value;
    let flags = libc::c_int::from(u16::from_ne_bytes([low, high]));
    if flags & libc::IFF_TAP == 0 {
        return Err(TapError::NotATap(name));
    }
    if flags & (libc::IFF_VNET_HDR | libc::IFF_NO_PI) != libc::IFF_VNET_HDR | libc::IFF_NO_PI {
        return Err(TapError::NoHeaders);
    }
    Ok((file, name))
}

fn check_name(name: &str) -> Result<(), TapError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || !name.bytes().all(is_plain) {
        return Err(TapError::BadName(name.to_owned()));
    }
    Ok(())
}

/// The guest must not send what the interface refuses.
fn check_mtu(name: &str, asked: u16) -> Result<(), TapError> {
    match mtu_of(name) {
        Ok(tap) if tap < u32::from(asked) => Err(TapError::MtuTooLarge { name: name.to_owned(), tap, asked }),
        Ok(_) => Ok(()),
        // A descriptor's interface may lie in another namespace, where it cannot be asked about.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        Err(error) => Err(TapError::System { what: "asking for the TAP's MTU", error }),
    }
}

fn mtu_of(name: &str) -> io::Result<u32> {
    let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("0.0.0.0:0"))?;
    let mut request = named(name);
    interface_call(&socket, InterfaceCall::GetMtu, &mut request)?;
    let [a, b, c, d, ..] = request.value;
    Ok(u32::from_ne_bytes([a, b, c, d]))
}

fn named(name: &str) -> InterfaceRequest {
    let mut request = InterfaceRequest::default();
    // Checked to leave room for the zero.
    for (to, from) in request.name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from;
    }
    request
}

fn name_in(request: &InterfaceRequest) -> String {
    let name: Vec<u8> = request.name.iter().copied().take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&name).into_owned()
}

fn set_non_blocking(file: &File) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    fcntl(file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
