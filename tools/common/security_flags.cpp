// SPDX-License-Identifier: Apache-2.0
// Each flag names the variable that stands in for it.
#include "tools/common/security_flags.hpp"

#include <CLI/CLI.hpp>

namespace kvferry::tools {

void add_security_flags(CLI::App& command, security_options& into) {
    const auto file = [&command](const char* flag, std::string& to, const char* text) {
        command.add_option(flag, to, text)->type_name("FILE");
    };
    file("--secret-file", into.secret_file,
         "File with the secret that all ranks of a deployment share (without it: "
         "KVFERRY_SECRET_FILE, KVFERRY_SECRET, else only this user on this machine)");
    file("--cert-file", into.cert_file,
         "In place of a secret: the certificate to show others, PEM (without it: "
         "KVFERRY_CERT_FILE)");
    file("--key-file", into.key_file, "Its key (without it: KVFERRY_KEY_FILE)");
    file("--ca-file", into.ca_file,
         "Authorities that sign the certificates of ranks (without it: KVFERRY_CA_FILE)");
    command
        .add_option("--peer-names", into.peer_names,
                    "DNS names, with commas between, of which a rank's certificate must have one; "
                    "*.NAME is any label before NAME (without it: KVFERRY_PEER_NAMES)")
        ->type_name("NAMES")
        ->delimiter(',')
        ->allow_extra_args(false);
}

} // namespace kvferry::tools
