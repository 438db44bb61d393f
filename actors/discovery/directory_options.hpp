// SPDX-License-Identifier: Apache-2.0
// Where instances are listed by name: etcd, over its HTTP gateway.
#pragma once

#include "messages/errors.hpp"

#include <chrono>
#include <string>
#include <vector>

namespace kvferry {

struct directory_options {
    /// "http://host:port" or "https://host:port" of etcd's members, with commas between; empty:
    /// where KVFERRY_ETCD says, else none.
    std::string endpoints = {};
    /// In front of all keys; empty: KVFERRY_ETCD_PREFIX, else "/kvferry/".
    std::string prefix = {};
    /// For https, as files: who signed etcd's certificate, and this process's own certificate and
    /// key. Empty: KVFERRY_ETCD_CA_FILE, _CERT_FILE, _KEY_FILE, else the system's, and none.
    std::string ca_file = {};
    std::string cert_file = {};
    std::string key_file = {};
    /// Where etcd asks for a user: its name, and a file with its password that nobody else may
    /// read; it is read again whenever etcd asks. Empty: KVFERRY_ETCD_USER, _PASSWORD_FILE, else
    /// none.
    std::string user = {};
    std::string password_file = {};
    /// An instance whose rank 0 is silent for so long is no longer listed.
    std::chrono::seconds lease{10};

    friend bool operator==(const directory_options&, const directory_options&) = default;
};

/// The same with the environment's words where it is empty.
directory_options from_environment(directory_options);

/// Its members, each checked. invalid_argument shows the one that is no such URL.
caf::expected<std::vector<std::string>> members_of(const directory_options&);

/// invalid_argument: a member, or a part that another one belongs to is missing, the password file
/// cannot be used, or the password would go in clear text to another machine.
caf::error check(const directory_options&);

/// The password in that file, without the end of its line.
caf::expected<std::string> read_password(const directory_options&);

/// The name in "etcd:name"; empty: the address is no such name.
std::string_view listed_name(std::string_view address);

} // namespace kvferry
