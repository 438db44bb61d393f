// SPDX-License-Identifier: Apache-2.0
// The checks, and the prompts that the demo makes up.
#include "tools/demo/options.hpp"

#include "tools/engine/config.hpp"

#include <array>
#include <stdexcept>
#include <string_view>

namespace kvferry::demo {
namespace {

constexpr std::array<std::string_view, 5> sentences{
    "The ferry takes its load before dawn, crates that were filled on one bank and will be opened "
    "on the other. ",
    "Nobody on board knows what is inside, and nobody needs to. ",
    "The pilot counts the crates, ties them down in the order of the list, and watches the water. ",
    "On the far side each crate has its place already, painted on the quay. ",
    "The work there goes on as if it had never been anywhere else; only the list remembers that "
    "there was a river. "};

void check_side(const engine::model_config& model, const engine::parallelism& ranks,
                std::uint32_t tokens_per_block, const char* option) {
    try {
        engine::split(engine::geometry_of(model, tokens_per_block), ranks);
        if (model.heads % ranks.tp_size != 0)
            throw std::invalid_argument("tp does not divide the model's "
                                        + std::to_string(model.heads) + " query heads");
    } catch (const std::invalid_argument& error) {
        throw std::invalid_argument(std::string(option) + " " + to_string(ranks) + ": "
                                    + error.what());
    }
}

} // namespace

engine::model_config model_of(const std::string& name, bool latent, std::size_t window) {
    auto result = engine::preset(name);
    result.window = window;
    if (latent) {
        result.latent = true;
        result.kv_heads = 1;
    }
    return result;
}

void check(const demo_options& options) {
    const auto model = model_of(options.model, options.latent, options.window);
    check_side(model, options.context, options.tokens_per_block, "--context");
    check_side(model, options.generation,
               options.generation_tokens_per_block == 0 ? options.tokens_per_block
                                                        : options.generation_tokens_per_block,
               "--generation");
    for (const auto& prompt : options.prompts) {
        if (prompt.empty())
            throw std::invalid_argument("a prompt is empty: there would be nothing to move");
    }
    if (options.prompts.size() > 1 && options.requests != 0
        && options.requests != options.prompts.size())
        throw std::invalid_argument("--requests " + std::to_string(options.requests) + " but "
                                    + std::to_string(options.prompts.size())
                                    + " prompts: leave --requests out, or give one prompt");
}

std::vector<std::string> make_prompts(const demo_options& options) {
    auto prompts = options.prompts;
    if (prompts.empty()) {
        for (std::uint32_t i = 0; i < (options.requests == 0 ? 3 : options.requests); ++i) {
            auto prompt = std::to_string(i + 1) + ". ";
            for (std::size_t next = i; prompt.size() < options.prompt_tokens; ++next)
                prompt += sentences[next % sentences.size()];
            prompts.push_back(prompt.substr(0, options.prompt_tokens));
        }
        return prompts;
    }
    for (auto i = static_cast<std::uint32_t>(prompts.size()); i < options.requests; ++i)
        prompts.push_back(std::to_string(i + 1) + ": " + prompts.front());
    return prompts;
}

} // namespace kvferry::demo
