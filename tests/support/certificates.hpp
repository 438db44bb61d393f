// SPDX-License-Identifier: Apache-2.0
// Certificates for tests, made with the openssl program, and files that hold them.
#pragma once

#include "tests/support/other_program.hpp"

#include <fstream>
#include <string>

namespace kvferry::testing {

/// An authority of its own, and what it has signed.
class certificates {
public:
    certificates() {
        openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout "
                + key("authority") + " -out " + ca());
    }

    /// For these names and two days; with `days` 0 it has ended when it is made. `more` goes into
    /// its extensions, a line each.
    void sign(const std::string& name, int days = 2, const std::string& names = "IP:127.0.0.1",
              const std::string& more = {}) const {
        const auto request = path(name + ".csr");
        openssl("req -newkey rsa:2048 -nodes -subj /O=" + name + " -keyout " + key(name) + " -out "
                + request);
        std::ofstream{path("names")} << "subjectAltName=" << names << "\n" << more;
        openssl("x509 -req -in " + request + " -CA " + ca() + " -CAkey " + key("authority")
                + " -CAcreateserial -days " + std::to_string(days) + " -extfile " + path("names")
                + " -out " + cert(name));
    }

    std::string ca() const { return path("ca.pem"); }
    std::string cert(const std::string& name) const { return path(name + ".pem"); }
    std::string key(const std::string& name) const { return path(name + ".key"); }

private:
    std::string path(const std::string& name) const { return (folder_.path / name).string(); }

    static void openssl(const std::string& words) {
        std::vector<std::string> all{"openssl"};
        std::istringstream in{words};
        for (std::string word; in >> word;)
            all.push_back(word);
        program run{std::move(all)};
        const auto status = run.status();
        INFO(words << ": " << run.said);
        REQUIRE(status == 0);
    }

    scratch folder_;
};

} // namespace kvferry::testing
