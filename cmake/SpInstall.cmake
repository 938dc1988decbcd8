# SPDX-License-Identifier: MIT
# What `make install` puts where. Plugins and programs are installed beside their targets.

include(CMakePackageConfigHelpers)

set(SP_PACKAGE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/sp")

install(
    TARGETS sp_shared sp_static sp_sdk sp_manifest
    EXPORT sp-targets
    RUNTIME DESTINATION "${CMAKE_INSTALL_LIBEXECDIR}/sp" COMPONENT development
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development
    LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT runtime
            NAMELINK_COMPONENT development)

install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/sp" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
        COMPONENT development FILES_MATCHING PATTERN "*.h")
if(EXISTS "${PROJECT_SOURCE_DIR}/sdk/include/sp")
    install(DIRECTORY "${PROJECT_SOURCE_DIR}/sdk/include/sp" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
            COMPONENT development FILES_MATCHING PATTERN "*.h")
endif()

install(EXPORT sp-targets NAMESPACE sp:: DESTINATION "${SP_PACKAGE_DIR}" COMPONENT development)
configure_package_config_file(
    "${PROJECT_SOURCE_DIR}/cmake/sp-config.cmake.in" "${PROJECT_BINARY_DIR}/obj/sp-config.cmake"
    INSTALL_DESTINATION "${SP_PACKAGE_DIR}"
    PATH_VARS CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/obj/sp-config-version.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/obj/sp-config.cmake"
              "${PROJECT_BINARY_DIR}/obj/sp-config-version.cmake"
              "${PROJECT_SOURCE_DIR}/sdk/cmake/SpAddPlugin.cmake" "${PROJECT_SOURCE_DIR}/sdk/cmake/plugin.map"
        DESTINATION "${SP_PACKAGE_DIR}" COMPONENT development)

# pkg-config: relative to the file, so that a moved prefix works; absolute where the directories are.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
    set(SP_PC_PREFIX "${CMAKE_INSTALL_PREFIX}")
else()
    file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
    string(REGEX REPLACE "/$" "" up "${up}")
    set(SP_PC_PREFIX "\${pcfiledir}/${up}")
endif()
foreach(dir LIBDIR INCLUDEDIR)
    if(IS_ABSOLUTE "${CMAKE_INSTALL_${dir}}")
        set(SP_PC_${dir} "${CMAKE_INSTALL_${dir}}")
    else()
        set(SP_PC_${dir} "\${prefix}/${CMAKE_INSTALL_${dir}}")
    endif()
endforeach()
configure_file("${PROJECT_SOURCE_DIR}/cmake/sp.pc.in" "${PROJECT_BINARY_DIR}/obj/sp.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/obj/sp.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig"
        COMPONENT development)

install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT runtime)
foreach(section 1 3 5 7)
    file(GLOB pages CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/doc/man/*.${section}")
    if(pages)
        install(FILES ${pages} DESTINATION "${CMAKE_INSTALL_MANDIR}/man${section}" COMPONENT runtime)
    endif()
endforeach()
