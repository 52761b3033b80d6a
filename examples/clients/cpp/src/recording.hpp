// Sensor recordings as CSV: the first line names the channels, each further line is a sample.
#pragma once

#include <string>
#include <vector>

#include "motoric.hpp"

namespace motoric {

struct Recording {
    std::vector<std::string> channels;  // without the column time_s, which is not sent
    std::vector<Sample> samples;        // NaN where a cell is empty
};

// Throws Error where the file is not such a table.
Recording read_recording(const std::string& file);

}  // namespace motoric
