# SPDX-License-Identifier: MIT
# sp_add_plugin: build a plugin. In the project's own tree and, through find_package(sp), in anybody's.
#
#   sp_add_plugin(NAME name KIND protocol|transport|actor
#                 [SOURCES file...]         default: every .c file of the folder
#                 [LIBRARIES target...]     what else to link; never libsp
#                 [OUTPUT_DIRECTORY dir]    default: SP_PLUGIN_OUTPUT_DIRECTORY, else the current binary directory
#                 [NO_MANIFEST]             write no manifest: then the file is opened to ask it
#                 [MANIFEST file]           take this manifest; else the built plugin is asked what is in it
#                 [ID org.example.name] [VERSION x.y.z] [EXPORTS name...] [ABI 1.0])
#                                           what a cross build, which cannot ask, writes instead: all three, as they stand
#                                           in the descriptor, since a difference is a refusal
#
# makes the target `name`: name.so, which exports sp_plugin_entry_v1 alone and links against no libsp, and beside it
# name.json, which tells the loader what is inside without opening it. It is a hint: the plugin's descriptor decides.
#
#   sp_install_plugin(name [DESTINATION dir])
#
# installs both; default LIBDIR/sp/1, where libsp of the same prefix looks.

set(SP_PLUGIN_MAP "${CMAKE_CURRENT_LIST_DIR}/plugin.map" CACHE INTERNAL "symbols that a plugin shows")

function(sp_add_plugin)
    cmake_parse_arguments(arg "NO_MANIFEST" "NAME;KIND;ID;VERSION;ABI;MANIFEST;OUTPUT_DIRECTORY"
                          "SOURCES;LIBRARIES;EXPORTS" ${ARGN})
    if(arg_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "sp_add_plugin: unknown argument ${arg_UNPARSED_ARGUMENTS}")
    endif()
    if(NOT arg_NAME)
        message(FATAL_ERROR "sp_add_plugin: NAME is missing")
    endif()
    if(NOT arg_KIND MATCHES "^(protocol|transport|actor)$")
        message(FATAL_ERROR "sp_add_plugin(${arg_NAME}): KIND is protocol, transport or actor")
    endif()
    if(NOT arg_SOURCES)
        file(GLOB arg_SOURCES CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.c")
    endif()
    if(NOT arg_OUTPUT_DIRECTORY)
        if(SP_PLUGIN_OUTPUT_DIRECTORY)
            set(arg_OUTPUT_DIRECTORY "${SP_PLUGIN_OUTPUT_DIRECTORY}")
        else()
            set(arg_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}")
        endif()
    endif()

    add_library(${arg_NAME} MODULE ${arg_SOURCES})
    set_target_properties(
        ${arg_NAME}
        PROPERTIES PREFIX ""
                   SUFFIX ".so"
                   LIBRARY_OUTPUT_DIRECTORY "${arg_OUTPUT_DIRECTORY}"
                   C_VISIBILITY_PRESET hidden
                   CXX_VISIBILITY_PRESET hidden
                   VISIBILITY_INLINES_HIDDEN ON
                   POSITION_INDEPENDENT_CODE ON
                   LINK_DEPENDS "${SP_PLUGIN_MAP}")
    if(CMAKE_C_COMPILER_LOADED)
        target_compile_features(${arg_NAME} PRIVATE c_std_11)
    endif()
    target_link_libraries(${arg_NAME} PRIVATE sp::sdk ${arg_LIBRARIES})
    target_link_options(${arg_NAME} PRIVATE "-Wl,--version-script=${SP_PLUGIN_MAP}" -Wl,-z,now -Wl,--as-needed)
    # Nothing may stay open for libsp to fill in. A sanitizer leaves its own symbols open.
    if(NOT SP_SANITIZE AND NOT "${CMAKE_C_FLAGS} ${CMAKE_MODULE_LINKER_FLAGS}" MATCHES "-fsanitize")
        target_link_options(${arg_NAME} PRIVATE -Wl,-z,defs)
    endif()
    if(NOT arg_NO_MANIFEST)
        sp_plugin_manifest()
    endif()
endfunction()

# The manifest of sp_add_plugin's arguments. A macro: it reads arg_*.
macro(sp_plugin_manifest)
    set(json "${arg_OUTPUT_DIRECTORY}/${arg_NAME}.json")
    if(arg_MANIFEST)
        configure_file("${arg_MANIFEST}" "${json}" COPYONLY)
    elseif(NOT CMAKE_CROSSCOMPILING OR CMAKE_CROSSCOMPILING_EMULATOR)
        add_custom_command(
            TARGET ${arg_NAME} POST_BUILD
            COMMAND ${SP_LAUNCHER} ${CMAKE_CROSSCOMPILING_EMULATOR} $<TARGET_FILE:sp::manifest> "$<TARGET_FILE:${arg_NAME}>" "${json}"
            BYPRODUCTS "${json}"
            VERBATIM)
        get_target_property(imported sp::manifest IMPORTED)
        if(NOT imported)
            add_dependencies(${arg_NAME} sp::manifest)
        endif()
    elseif(arg_ID AND arg_VERSION AND arg_EXPORTS)
        if(NOT arg_ABI)
            set(arg_ABI "1.0")
        endif()
        list(TRANSFORM arg_EXPORTS REPLACE "(.+)" "{\"kind\":\"${arg_KIND}\",\"name\":\"\\1\"}")
        list(JOIN arg_EXPORTS "," exports)
        file(WRITE "${json}" "{\"id\":\"${arg_ID}\",\"version\":\"${arg_VERSION}\",\"abi\":\"${arg_ABI}\",\
\"exports\":[${exports}]}\n")
    else()
        message(FATAL_ERROR "sp_add_plugin(${arg_NAME}): a cross build cannot ask the plugin: give MANIFEST, or ID, \
VERSION and EXPORTS, or NO_MANIFEST")
    endif()
endmacro()

function(sp_install_plugin name)
    cmake_parse_arguments(arg "" "DESTINATION" "" ${ARGN})
    if(NOT arg_DESTINATION)
        include(GNUInstallDirs)
        set(arg_DESTINATION "${CMAKE_INSTALL_LIBDIR}/sp/1")
    endif()
    install(TARGETS ${name} LIBRARY DESTINATION "${arg_DESTINATION}" COMPONENT plugins)
    install(FILES "$<TARGET_FILE_DIR:${name}>/${name}.json" DESTINATION "${arg_DESTINATION}" COMPONENT plugins
            OPTIONAL)
endfunction()
