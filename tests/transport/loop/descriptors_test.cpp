// SPDX-License-Identifier: Apache-2.0
// The reserve of descriptors, and that the soft limit is no limit.
#include "messages/errors.hpp"
#include "tests/support/caf_setup.hpp"
#include "tests/support/contains.hpp"
#include "transport/loop/descriptors.hpp"

#include <doctest/doctest.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

using namespace kvferry;
using kvferry::testing::contains;

namespace {

/// In a process of its own, because limits and descriptors are the process's.
int in_child(int (*body)()) {
    const auto child = ::fork();
    if (child == 0)
        ::_exit(body());
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

} // namespace

TEST_CASE("descriptors: when only the reserve is left, this is told by name") {
    CHECK(in_child([] {
              const rlimit limit{100, 100};
              ::setrlimit(RLIMIT_NOFILE, &limit);
              if (check_descriptors(50))
                  return 1;
              while (::dup(STDOUT_FILENO) < 60)
                  ;
              const auto problem = check_descriptors(50);
              return code_of(problem) == errc::limit_exceeded
                             && contains(text_of(problem), "fewer than 50 of this process's 100")
                         ? 0
                         : 2;
          })
          == 0);
}

TEST_CASE("descriptors: the soft limit is raised to the hard one") {
    CHECK(in_child([] {
              const rlimit limit{64, 128};
              ::setrlimit(RLIMIT_NOFILE, &limit);
              raise_descriptor_limit();
              rlimit now{};
              ::getrlimit(RLIMIT_NOFILE, &now);
              return now.rlim_cur == 128 ? 0 : 1;
          })
          == 0);
}
