// SPDX-License-Identifier: Apache-2.0
// Runs a fuzzer's function on files, with any compiler, so that former findings stay fixed.
#include "tests/fuzz/fuzz.hpp"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <vector>

int main(int argc, char** argv) {
    int files = 0;
    for (int index = 1; index < argc; ++index) {
        std::error_code absent; // ignored: no finding yet
        for (const auto& entry : std::filesystem::directory_iterator{argv[index], absent}) {
            std::ifstream file{entry.path(), std::ios::binary};
            const std::vector<char> bytes{std::istreambuf_iterator<char>{file}, {}};
            std::cout << entry.path().string() << std::endl; // the last one is the finding
            LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                   bytes.size());
            ++files;
        }
    }
    std::cout << files << " files\n";
    return files > 0 ? 0 : 1;
}
