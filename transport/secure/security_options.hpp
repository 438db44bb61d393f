// SPDX-License-Identifier: Apache-2.0
// What a host says about strangers: who may talk to its ranks.
#pragma once

#include <string>

namespace kvferry {

/// One of the three at most. All empty: KVFERRY_SECRET_FILE, then KVFERRY_SECRET, decides; without
/// them only processes of the same user on this machine are served, over loopback addresses.
struct security_options {
    /// A file with the secret that all ranks of a deployment share: its first line is shown to
    /// others, every further one is accepted as well, so that a new secret can be brought in while
    /// the old one is in use. Lines that begin with # are skipped. Nobody but its user and group
    /// may read it.
    std::string secret_file = {};
    /// The same lines as a text.
    std::string secret = {};
    /// Whoever reaches a port of this rank is served, and may read and change what it holds.
    bool insecure = false;
    /// With a secret, on a network that nobody else listens on: bytes of pages that go over TCP are
    /// neither encrypted nor checked once their connection has shown the secret. Messages are in
    /// any case. Both sides must say so.
    bool plain_bulk = false;
};

} // namespace kvferry
