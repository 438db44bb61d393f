// SPDX-License-Identifier: Apache-2.0
// What a host says about strangers: who may talk to its ranks.
#pragma once

#include <string>
#include <vector>

namespace kvferry {

/// A secret, certificates or `insecure`: one of the three at most. None of them: the environment
/// decides (KVFERRY_SECRET_FILE, KVFERRY_SECRET, or KVFERRY_CERT_FILE and what goes with it);
/// without it only processes of the same user on this machine are served, over loopback addresses.
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
    /// With a secret or certificates, on a network that nobody else listens on: bytes of pages that
    /// go over TCP are neither encrypted nor checked once their connection has shown what it must.
    /// Messages are in any case. Both sides must say so.
    bool plain_bulk = false;

    /// Certificates in place of a secret, as PEM files: this rank's, followed by those between it
    /// and its authority; its key, which nobody but its user and group may read; and the
    /// authorities that sign for peers. A new connection takes what the files hold then; when
    /// that is unusable it is logged, and what was there before goes on.
    std::string cert_file = {};
    std::string key_file = {};
    std::string ca_file = {};
    /// Whom these authorities let in: a certificate must have one of these DNS names as subject
    /// alternative name. "*.prefill.example" stands for any one label in front. Each field that is
    /// empty beside others is taken from KVFERRY_CERT_FILE, _KEY_FILE, _CA_FILE, _PEER_NAMES.
    std::vector<std::string> peer_names = {};
};

} // namespace kvferry
