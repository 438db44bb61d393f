// SPDX-License-Identifier: Apache-2.0
// Each flag names the variable that stands in for it.
#include "tools/common/directory_flags.hpp"

#include <CLI/CLI.hpp>

namespace kvferry::tools {

void add_directory_flags(CLI::App& command, directory_options& into, const std::string& what) {
    command
        .add_option("--etcd", into.endpoints,
                    "Members of etcd, with commas between: " + what + " (without it: KVFERRY_ETCD)")
        ->type_name("URL,...");
    command
        .add_option("--etcd-prefix", into.prefix,
                    "In front of all keys there (without it: KVFERRY_ETCD_PREFIX, else /kvferry/)")
        ->type_name("PREFIX");
    const auto file = [&command](const char* flag, std::string& to, const char* text) {
        command.add_option(flag, to, text)->type_name("FILE");
    };
    file("--etcd-ca", into.ca_file,
         "Who has signed etcd's certificate, for https (without it: KVFERRY_ETCD_CA_FILE, else the "
         "system's)");
    file("--etcd-cert", into.cert_file,
         "The certificate to show etcd (without it: KVFERRY_ETCD_CERT_FILE)");
    file("--etcd-key", into.key_file, "Its key (without it: KVFERRY_ETCD_KEY_FILE)");
    command
        .add_option("--etcd-user", into.user,
                    "Who asks, where etcd has users (without it: KVFERRY_ETCD_USER)")
        ->type_name("NAME");
    file("--etcd-password-file", into.password_file,
         "Holds the user's password (without it: KVFERRY_ETCD_PASSWORD_FILE)");
}

} // namespace kvferry::tools
